"""Clients of LLM providers: one module for each wire protocol; `llm.clients.registry` finds them."""
