"""The two admin sites: the frame of their pages, staff rights, appearance, browser security."""
