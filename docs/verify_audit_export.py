#!/usr/bin/env python3
"""Verify every hash and link of an audit log that `seo-gen audit export` wrote. Needs only Python, no database.

    python3 verify_audit_export.py FILE [--identity UUID] [--head HASH]

Each line is one entry, a JSON object whose values are text or null. Its hash is the sha256 of all fields but the last,
in order, each as "<number of UTF-8 bytes>:<text>", null as "-", joined by commas; `previous_hash` is the hash of the
entry before it. Exit: 0 unbroken, 1 broken, empty or not the expected log, 2 the file cannot be read, or wrong usage.
"""

import argparse
import hashlib
import json
import re
import sys

FIELDS = [
    *("sequence", "previous_hash", "created_at", "user_id", "action", "resource_type", "resource_id", "details"),
    *("operation_id", "entry_hash"),
]
MAY_BE_NULL = {"details", "operation_id"}


class Bad(Exception):
    """A line, or the whole log, is not as it should be; the message says what is wrong."""


def genesis_of(identity):
    return hashlib.sha256(f"seo-gen audit chain of {identity}".encode()).hexdigest()


def entry_of(line):
    """Return the entry's fields; raise `Bad` unless the line has exactly the fields of an entry, in their order."""
    try:
        pairs = json.loads(line.decode("utf-8"), object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise Bad("it is not JSON, or was truncated") from None
    is_object = isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs)
    if not is_object or [pair[0] for pair in pairs] != FIELDS:
        raise Bad("it does not have exactly the fields of an entry")
    if not all(isinstance(value, str) or (value is None and name in MAY_BE_NULL) for name, value in pairs):
        raise Bad("a field is not text")
    return dict(pairs)


def hash_of(entry):
    """Return the entry's correct hash."""
    texts = [entry[name] for name in FIELDS[:-1]]
    form = ",".join("-" if text is None else f"{len(text.encode())}:{text}" for text in texts)
    return hashlib.sha256(form.encode()).hexdigest()


def check(lines, genesis=None):
    """Return (number of entries, the last one's hash); raise `Bad` for the first bad line."""
    number, head = 0, genesis
    for number, line in enumerate(lines, start=1):
        try:
            entry = entry_of(line)
            if entry["sequence"] != str(number):
                raise Bad(f"it is entry {entry['sequence']}: entries are missing, duplicated or out of order")
            if head is not None and entry["previous_hash"] != head:
                raise Bad("it does not start this chain" if number == 1 else "it does not follow the entry before it")
            if entry["entry_hash"] != hash_of(entry):
                raise Bad("its content does not match its hash: it was changed")
        except (Bad, UnicodeEncodeError) as error:
            raise Bad(f"line {number}: {error}") from None
        head = entry["entry_hash"]
    return number, head


def main():
    parser = argparse.ArgumentParser(description="Verify an audit log that `seo-gen audit export` wrote.")
    parser.add_argument("file")
    parser.add_argument("--identity", help="prove that it begins this tenant's log (or: control_audit_logs)")
    parser.add_argument("--head", type=str.lower, help="prove that it ends with the entry that has this hash")
    options = parser.parse_args()
    if options.head and not re.fullmatch("[0-9a-f]{64}", options.head):
        parser.error("--head is not 64 hexadecimal digits")
    try:
        with open(options.file, "rb") as lines:
            number, head = check(lines, options.identity and genesis_of(options.identity.lower()))
        if options.head and head != options.head:
            raise Bad(f"it ends after line {number}, but not with --head: entries are missing, or it is another log")
        if not number and not options.head:
            raise Bad("it holds no entries")
    except OSError as error:
        print(f"{options.file} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except Bad as error:
        print(f"{options.file}: {error}")
        return 1
    print(f"{options.file}: {number} entries, unbroken; the last has the hash {head}")
    proven = [*(["where it begins"] if options.identity else []), *(["where it ends"] if options.head else [])]
    print(f"proven beyond that: {', '.join(proven) or 'nothing; --identity proves the beginning, --head the end'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
