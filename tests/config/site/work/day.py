"""A member of staff who works in a real browser: each page is checked as soon as it is seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.support.browser.chromium import Browser

WIDTH, HEIGHT = 1366, 900
MARK = "window.isTheSamePage = true"
IS_MARKED = "return window.isTheSamePage === true"
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
FETCH = "const done = arguments[1]; fetch(arguments[0]).then((answer) => answer.text()).then(done, String)"
DRAWN = """
    const {data} = Chart.getChart(document.querySelector("canvas.chart"));
    return [data.labels, data.datasets[0].data];
"""


@dataclass(frozen=True)
class Words:
    """What the pages say, in one language."""

    language: str
    log_in: str
    created: str
    output: str
    uses: str
    started: str
    advice: str
    ask: str
    approved: str
    completed: str
    costs: str
    roll_back: str
    back_up: str
    done: str
    finished: str
    restore: str
    undo: str
    wrong_id: str
    delete: str
    certificate: str
    changed: str
    no: str
    yes: str
    # Titles of the entries in the tenant's log and in the control log.
    entries: tuple[str, ...]
    control_entries: tuple[str, ...]


ENGLISH = Words(
    language="en",
    log_in="Log in",
    created="was created as a draft.",
    output="Tokens used:",
    uses="is now active.",
    started="The run was started.",
    advice="Read the texts, then approve the run or send it back.",
    ask="Approve the next step?",
    approved="The run was approved.",
    # Badges are in capitals.
    completed="COMPLETED",
    costs="Costs",
    roll_back="Return to the version that was active before?",
    back_up="Back up",
    done="The operation is done.",
    finished="DONE",
    restore="Restore tenant",
    undo="Undo the restore",
    wrong_id="This is not the tenant's id.",
    delete="Delete for good",
    certificate="Certificate of erasure",
    changed="changed from {old} to {new}",
    no="no",
    yes="yes",
    entries=(
        *("Prompt version created", "Prompt draft changed", "Prompt test completed", "Prompt activated"),
        *("Run created", "Run paused", "Run approved", "Run completed", "Override added", "Override changed"),
    ),
    control_entries=("Creation of a tenant", "Backup completed", "Restore completed", "Deletion completed"),
)
JAPANESE = Words(
    language="ja",
    log_in="ログイン",
    created="を下書きとして作成しました。",
    output="使用トークン:",
    uses="が有効になりました。",
    started="実行を開始しました。",
    advice="文章を確認し、承認するか差し戻してください。",
    ask="次の工程を承認しますか？",
    approved="実行を承認しました。",
    completed="完了",
    costs="コスト",
    roll_back="前に有効だったバージョンに戻しますか？",
    back_up="バックアップする",
    done="オペレーションが完了しました。",
    finished="完了",
    restore="の復元",
    undo="復元を元に戻す",
    wrong_id="テナントの ID と一致しません。",
    delete="完全に消去する",
    certificate="消去証明書",
    changed="が「{old}」から「{new}」に変更されました。",
    no="いいえ",
    yes="はい",
    entries=(
        *("プロンプトのバージョンの作成", "プロンプトの下書きの変更", "プロンプトのテストの完了", "プロンプトの有効化"),
        *("実行の作成", "実行の一時停止", "実行の承認", "実行の完了", "上書き設定の追加", "上書き設定の変更"),
    ),
    control_entries=("テナントの作成", "バックアップの完了", "復元の完了", "消去の完了"),
)


class Day:
    """The browser of one person, in one language."""

    def __init__(self, browser: Browser, words: Words) -> None:
        self.browser = browser
        self.words = words
        browser.resize(WIDTH, HEIGHT)

    @property
    def text(self) -> str:
        return self.browser.find("body").text

    def open(self, path: str, *texts: str) -> None:
        self.browser.open(path)
        self.see(*texts)

    def open_until(self, path: str, css: str) -> None:
        """Open a page again and again until it has an element that matches `css`."""

        def has_it() -> bool:
            self.open(path)
            return bool(self.browser.driver.find_elements(By.CSS_SELECTOR, css))

        self.browser.wait_until(has_it)

    def follow(self, href: str, *texts: str) -> None:
        """Click the link whose address ends with `href`, and check the page that it opens."""
        self.click(f"a[href$='{href}']", *texts)

    def click(self, css: str, *texts: str) -> None:
        """Click an element that opens another page, and check that page."""
        self.browser.driver.execute_script(MARK)
        self.browser.click(css)
        self.browser.wait_until(lambda: not self.is_same_page)
        self.see(*texts)

    def send(self, *texts: str, button: str = "#content form button[type=submit]") -> None:
        self.click(button, *texts)

    def see(self, *texts: str) -> None:
        """Check the open page: these texts, its language, no browser errors, and nothing wider than the window."""
        self.browser.page()
        for text in texts:
            self.browser.wait_for_text(text)
        path = self.browser.path
        assert self.browser.find("html").get_attribute("lang") == self.words.language, path
        assert self.browser.complaints() == [], path
        assert self.browser.driver.execute_script(OVERFLOW) <= 0, f"{path} is wider than {WIDTH} pixels"

    def watch(self, *texts: str) -> None:
        """Wait until the open page shows these texts without being loaded again."""
        self.browser.driver.execute_script(MARK)
        for text in texts:
            self.browser.wait_for_text(text)
        self.see()
        assert self.is_same_page, self.browser.path

    @property
    def is_same_page(self) -> bool:
        return bool(self.browser.driver.execute_script(IS_MARKED))

    def pick(self, href: str, *texts: str) -> None:
        """Open the first menu at the top of the page, and follow one of its links."""
        self.browser.click("[x-ref^=actionDropdown] > a")
        self.follow(href, *texts)

    def choose(self, name: str, value: str) -> None:
        Select(self.browser.find(f"select[name={name}]")).select_by_value(value)

    def append(self, name: str, text: str) -> None:
        self.browser.driver.find_element(By.NAME, name).send_keys(text)

    def switch_on(self, name: str) -> None:
        """Turn on a switch; a script does it, since the switch covers its checkbox."""
        box = self.browser.driver.find_element(By.NAME, name)
        if not box.is_selected():
            self.browser.driver.execute_script("arguments[0].click()", box)

    def download(self, css: str) -> str:
        """Return the sha256 of what a link on the page leads to, as the browser gets it."""
        href = self.browser.find(css).get_attribute("href")
        return hashlib.sha256(self.browser.driver.execute_async_script(FETCH, href).encode()).hexdigest()

    def chart(self) -> dict[str, float]:
        """Return the values of the bars in the page's chart, by label."""
        labels, amounts = self.browser.driver.execute_script(DRAWN)
        return dict(zip(labels, amounts, strict=True))
