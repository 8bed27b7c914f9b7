"""The two admin sites: what surrounds their pages, who may what, how they look, what browsers are told."""
