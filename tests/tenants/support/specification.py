"""The specification's tables, transcribed from its text: the minimum that both kinds of database must contain.

Types are those of `format_type`. `TIMESTAMP` is `timestamp with time zone` everywhere (docs/adr/0001).
"""

from dataclasses import dataclass, field

TEXT, INTEGER, BOOLEAN, JSONB, UUID = "text", "integer", "boolean", "jsonb", "uuid"
TIMESTAMP, PRICE = "timestamp with time zone", "numeric(10,6)"
NOW, TRUE, ZERO = "now()", "true", "0"
SERIAL = "nextval"


@dataclass(frozen=True)
class Column:
    type: str
    not_null: bool = False
    # What the default's expression begins with, once cast and quotes are gone.
    default: str | None = None


@dataclass(frozen=True)
class Table:
    columns: dict[str, Column]
    primary_key: str
    # column → (table, column)
    references: dict[str, tuple[str, str]] = field(default_factory=dict)
    unique: tuple[tuple[str, ...], ...] = ()


ID = Column(INTEGER, not_null=True, default=SERIAL)
REQUIRED = Column(TEXT, not_null=True)

CONTROL = {
    "tenants": Table(
        {
            "id": REQUIRED,
            "name": REQUIRED,
            "database_url": REQUIRED,
            "created_at": Column(TIMESTAMP, default=NOW),
            "is_active": Column(BOOLEAN, default=TRUE),
        },
        "id",
    ),
    "llm_providers": Table(
        {
            "id": REQUIRED,
            "display_name": REQUIRED,
            "api_base_url": Column(TEXT),
            "is_active": Column(BOOLEAN, default=TRUE),
        },
        "id",
    ),
    "llm_models": Table(
        {
            "id": ID,
            "provider_id": Column(TEXT),
            "model_name": REQUIRED,
            "model_class": REQUIRED,
            "cost_per_1k_input_tokens": Column(PRICE),
            "cost_per_1k_output_tokens": Column(PRICE),
            "is_active": Column(BOOLEAN, default=TRUE),
        },
        "id",
        {"provider_id": ("llm_providers", "id")},
    ),
    "step_llm_defaults": Table(
        {"step": REQUIRED, "provider_id": Column(TEXT), "model_class": REQUIRED},
        "step",
        {"provider_id": ("llm_providers", "id")},
    ),
}

TENANT = {
    "runs": Table(
        {
            "id": Column(UUID, not_null=True, default="gen_random_uuid()"),
            "status": REQUIRED,
            "current_step": Column(TEXT),
            "config": Column(JSONB),
            "created_at": Column(TIMESTAMP, default=NOW),
            "updated_at": Column(TIMESTAMP, default=NOW),
        },
        "id",
    ),
    "steps": Table(
        {
            "id": ID,
            "run_id": Column(UUID),
            "step": REQUIRED,
            "status": REQUIRED,
            "llm_model": Column(TEXT),
            "token_usage": Column(JSONB),
            "error_message": Column(TEXT),
            "retry_count": Column(INTEGER, default=ZERO),
            "started_at": Column(TIMESTAMP, default=NOW),
            "completed_at": Column(TIMESTAMP),
        },
        "id",
        {"run_id": ("runs", "id")},
    ),
    "artifacts": Table(
        {
            "id": ID,
            "run_id": Column(UUID),
            "step": REQUIRED,
            "file_type": REQUIRED,
            "file_path": REQUIRED,
            "digest": Column(TEXT),
            "metadata": Column(JSONB),
            "created_at": Column(TIMESTAMP, default=NOW),
        },
        "id",
        {"run_id": ("runs", "id")},
    ),
    "audit_logs": Table(
        {
            "id": ID,
            "user_id": REQUIRED,
            "action": REQUIRED,
            "resource_type": REQUIRED,
            "resource_id": REQUIRED,
            "details": Column(JSONB),
            "created_at": Column(TIMESTAMP, default=NOW),
        },
        "id",
    ),
    "prompts": Table(
        {
            "id": ID,
            "step": REQUIRED,
            "version": Column(INTEGER, not_null=True),
            "content": REQUIRED,
            "variables": Column(JSONB),
            "is_active": Column(BOOLEAN, default=TRUE),
        },
        "id",
        unique=(("step", "version"),),
    ),
}

# The view's specified columns, in order, with their types.
RUN_COSTS = {
    "run_id": UUID,
    "total_llm_cost": "numeric",
    "total_input_tokens": "bigint",
    "total_output_tokens": "bigint",
}
