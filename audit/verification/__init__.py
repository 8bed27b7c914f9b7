"""Whether logs are what was written: anchors, guards, the chain, exports. Above `tenants`, whose databases it reads."""
