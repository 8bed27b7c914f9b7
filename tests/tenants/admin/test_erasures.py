"""What staff see of an erasure: the certificate, the progress of an unfinished one, and the audit log that is kept."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from psycopg.types.json import Jsonb

from audit.control.models import ArchivedAuditLog, AuditArchive
from tenants.models import Erasure, ErasurePhase, Tenant
from tests.support.staff import Filled
from tests.tenants.support.erased import forge

ERASURES = "/admin/tenants/erasure/"
ARCHIVES = "/admin/audit_control/auditarchive/"
ENTRIES = "/admin/audit_control/archivedauditlog/"


def page_of(erased: Erasure) -> str:
    return f"{ERASURES}{erased.pk}/change/"


def certificate_of(erased: Erasure) -> str:
    return f"{ERASURES}{erased.pk}/certificate/"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_says_everything_that_the_certificate_says(browser: Client, erased: Erasure, language: str) -> None:
    page = browser.get(page_of(erased), headers={"accept-language": language}).content.decode()
    certificate = erased.certificate
    assert certificate is not None
    erased_, remains = certificate["erased"], certificate["remains"]
    for said in (
        *(certificate["tenant_id"], certificate["identity"], certificate["certificate"], certificate["requested_by"]),
        *(erased_["databases"][0]["name"], f"{erased_['databases'][0]['size_bytes']:,}", *erased_["roles"]),
        *(erased_["storage"]["list_sha256"], erased_["storage"]["place"], str(erased_["storage"]["size_bytes"])),
        *(remains["audit"]["head_hash"], remains["audit"]["digest"]),
        *(remains["physical"]["wal_archive"], remains["physical"]["wal_until_segment"]),
        erased.digest,
    ):
        assert said in page, said
    assert certificate_of(erased) in page


def test_the_certificate_is_handed_out_as_the_document_that_the_digest_is_of(browser: Client, erased: Erasure) -> None:
    response = browser.get(certificate_of(erased))
    assert hashlib.sha256(response.content).hexdigest() == erased.digest
    assert json.loads(response.content) == erased.certificate
    assert response["Content-Disposition"] == f'attachment; filename="erasure-{erased.tenant_id}.json"'


def test_an_unfinished_erasure_shows_its_progress(browser: Client, erased: Erasure) -> None:
    # The row as a killed process leaves it.
    forge(erased, "phase = %s, certificate = NULL, completed_at = NULL", ErasurePhase.STORAGE.value)
    try:
        response = browser.get(page_of(erased))
        page = " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())
        assert "This erasure has not finished" in page
        assert "storage erased done backups erased to do messages erased to do" in page
        assert browser.get(certificate_of(erased)).status_code == 404
        listed = browser.get(f"{ERASURES}?q={erased.tenant_id}").content.decode()
        assert "not finished" in listed and "storage erased" in listed
    finally:
        forge(
            erased,
            "phase = %s, certificate = %s, completed_at = %s",
            *(erased.phase, Jsonb(erased.certificate), erased.completed_at),
        )


def test_nothing_of_it_can_be_added_changed_or_removed(browser: Client, erased: Erasure) -> None:
    archive = AuditArchive.objects.get(identity=erased.identity)
    entry = ArchivedAuditLog.objects.filter(identity=erased.identity).first()
    assert entry is not None
    for pages, pk in ((ERASURES, erased.pk), (ARCHIVES, archive.pk), (ENTRIES, entry.pk)):
        assert browser.get(f"{pages}add/").status_code == 403, pages
        assert browser.post(f"{pages}{pk}/change/", {"tenant_id": "forged"}).status_code == 403, pages
        assert browser.post(f"{pages}{pk}/delete/", {"post": "yes"}).status_code == 403, pages
        browser.post(pages, {"action": "delete_selected", "_selected_action": [str(pk)], "post": "yes"})
    assert Erasure.objects.get(pk=erased.pk).digest == erased.digest
    assert AuditArchive.objects.filter(pk=archive.pk, tenant_id=erased.tenant_id).exists()


def test_only_those_who_may_see_erasures_see_a_certificate(staff: User, erased: Erasure) -> None:
    client = Client()
    client.force_login(staff)
    for path in (page_of(erased), certificate_of(erased)):
        # As for an erasure that never was.
        assert client.get(path).status_code == 404, path
        assert Client().get(path).status_code == 302, path


def test_an_erasure_that_never_was_is_not_found(browser: Client) -> None:
    for name in ("change", "certificate"):
        assert browser.get(f"{ERASURES}00000000-0000-0000-0000-000000000000/{name}/").status_code == 404


def test_archived_entries_are_found_by_the_tenants_id(browser: Client, erased: Erasure, filled: Filled) -> None:
    archive = AuditArchive.objects.get(identity=erased.identity)
    page = browser.get(f"{ARCHIVES}{archive.pk}/change/").content.decode()
    assert archive.head_hash in page and archive.digest in page
    link = f"{ENTRIES}?tenant={erased.tenant_id}"
    assert link in page
    for query in (link, f"{ENTRIES}?q={erased.tenant_id}", f"{link}&event=tenant.create"):
        listed = browser.get(query)
        found = listed.context["cl"].result_list
        assert {entry.tenant_id for entry in found} == {erased.tenant_id}, query
        assert "tenant.create" in {entry.action for entry in found}, query
    assert len(browser.get(link).context["cl"].result_list) == archive.entries
    entry = ArchivedAuditLog.objects.get(identity=erased.identity, sequence=1)
    assert entry.entry_hash in browser.get(f"{ENTRIES}{entry.pk}/change/").content.decode()


def test_a_tombstone_leads_to_its_certificate(browser: Client, erased: Erasure) -> None:
    for page in (f"/admin/tenants/tenant/{erased.tenant_id}/change/", f"/admin/tenants/tenant/?q={erased.tenant_id}"):
        assert page_of(erased) in browser.get(page).content.decode(), page
    assert Tenant.objects.get(pk=erased.tenant_id).database_url == ""
