"""Clients of LLM providers, one for each wire and one for compatible servers; `llm.clients.registry` chooses one."""
