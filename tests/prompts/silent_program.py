"""Replaces `prompts.sandbox_process`: reads everything and never answers."""

import sys

sys.stdin.buffer.read()
