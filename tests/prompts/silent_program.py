"""In place of `prompts.sandbox_process`: reads everything and answers nothing."""

import sys

sys.stdin.buffer.read()
