"""The two admin sites: the frame and the first pages of both, sign-in, staff rights, appearance, browser security."""
