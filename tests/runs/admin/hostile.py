"""Texts that customers, models or staff could enter to run code in a page."""

# In each of them, so that a test finds what became of it.
MARK = "zqx"
HOSTILE = [
    "<script>zqx</script>",
    '"><img src=x onerror=zqx>',
    "' x-init='zqx",
    '" @click="zqx" :class="zqx',
    "</title></textarea></bdi></script><svg onload=zqx>",
    "[zqx](javascript:zqx)",
    "<a href='javascript:zqx'>zqx</a>",
    '<div x-data="{zqx: 1}" x-html="zqx">zqx</div>',
    "{{ zqx }}{% zqx %}${zqx}",
    "zqx \u2067abc\u2069",
    '=HYPERLINK("http://zqx")',
    "<!-- zqx --><![CDATA[zqx]]>",
    '<form action="zqx"><button formaction="javascript:zqx">',
]
