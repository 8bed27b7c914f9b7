"""Settings from environment variables; those that are unset get the embedded stack's values, if it has any.

``docs/configuration.md`` describes every variable.
"""

import os
from pathlib import Path
from typing import Any

from django.utils.translation import gettext_lazy as _

from config import logs, stack
from config.base.approvals import KINDS
from config.base.database_session import Limits, command_name, inherited_options, parameters
from config.base.environment import CENTURY_DAYS, DAY_S, LiteralEnv
from config.command_line import web_apps
from config.site.theme import UNFOLD as UNFOLD
from config.site.web_security import CONTENT_SECURITY_POLICY, networks, on_loopback_alone, proxy_header

BASE_DIR = Path(__file__).resolve().parent.parent
env = LiteralEnv()
HOME = Path(env.str("SEO_GEN_HOME", default=str(BASE_DIR / "var"))).resolve()
# A copy: child processes must look up the stack's addresses themselves and not inherit the current ones.
env.ENVIRON = {**os.environ, **{k: v for k, v in stack.settings_from_stack(HOME).items() if not os.environ.get(k)}}

# -- Core ----------------------------------------------------------------------------------------------------------
SECRET_KEY = env.str("SECRET_KEY")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
INSTALLED_APPS = [
    *web_apps.installed(),
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "config",
    "tenants",
    "tenants.identity",
    "config.site.sign_in",
    "audit",
    "audit.control",
    "llm",
    "prompts",
    "runs",
    "runs.summaries",
]
MIDDLEWARE = [
    "config.site.request_log.RequestLogMiddleware",
    # The next two come before WhiteNoise, so that static files get their headers too.
    "django.middleware.security.SecurityMiddleware",
    "config.site.web_security.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Before anything that asks who the user is.
    "config.site.sign_in.middleware.SessionMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tenants.routing.middleware.TenantMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "libraries": {"seo_gen": "config.site.frame.tags"},
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# -- Databases -----------------------------------------------------------------------------------------------------
# `default` is the control database. Tenant aliases ("tenant:<id>") are added on first use by ``tenants.routing.pool``.
DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url("DATABASE_URL")}
# How long each session waits, and how long others wait for it.
DATABASE_LIMITS = Limits(
    lock_timeout_s=env.number("DATABASE_LOCK_TIMEOUT_S", default=Limits.lock_timeout_s, least=0.1, most=DAY_S),
    idle_in_transaction_timeout_s=env.number(
        "DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_S",
        default=Limits.idle_in_transaction_timeout_s,
        least=0.1,
        most=DAY_S,
    ),
    connect_timeout_s=env.whole_number(
        "DATABASE_CONNECT_TIMEOUT_S", default=Limits.connect_timeout_s, least=1, most=DAY_S
    ),
    tcp_user_timeout_s=env.number(
        "DATABASE_TCP_USER_TIMEOUT_S", default=Limits.tcp_user_timeout_s, least=0.1, most=DAY_S
    ),
)


def _control_options(url_options: dict[str, Any]) -> dict[str, Any]:
    """Return the control database's OPTIONS: those of its URL, overridden by our limits."""
    ours = parameters(DATABASE_LIMITS, inherited=inherited_options(url_options))
    return {"application_name": command_name(), **url_options, **ours}


# Kept open between tasks and requests, because entering a tenant's context always reads the control database.
DATABASES["default"].update({"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True})
DATABASES["default"]["OPTIONS"] = _control_options(DATABASES["default"].get("OPTIONS", {}))
DATABASE_ROUTERS = ["tenants.routing.router.TenantRouter"]
# The owner of the control database's tables. With it, the application's role (DATABASE_URL) can neither alter them nor
# remove the audit log's guards. Unset: DATABASE_URL also migrates, and a check warns.
DATABASE_OWNER_URL = env.str("DATABASE_OWNER_URL", default="")
if DATABASE_OWNER_URL:
    DATABASES["control-owner"] = {**env.db_url("DATABASE_OWNER_URL"), "ENGINE": "django.db.backends.postgresql"}
    DATABASES["control-owner"]["OPTIONS"] = _control_options(DATABASES["control-owner"].get("OPTIONS", {}))
# An administrator (CREATEDB, CREATEROLE) of the server for new tenants; registered as a DatabaseServer on set-up.
TENANT_SERVER_URL = env.str("TENANT_SERVER_URL", default="")
# That server's WAL archive, a folder or s3://bucket/prefix; stored with the server on set-up.
TENANT_SERVER_WAL_ARCHIVE = env.str("TENANT_SERVER_WAL_ARCHIVE", default="")
TENANT_DATABASE_PREFIX = env.str("TENANT_DATABASE_PREFIX", default="seo_gen")
# Open connections to tenant databases, per process: in use and idle together.
TENANT_CONNECTIONS_MAX = env.whole_number("TENANT_CONNECTIONS_MAX", default=8, least=1)
TENANT_CONNECTION_WAIT_S = env.number("TENANT_CONNECTION_WAIT_S", default=30.0)
# How long an operation waits for another one on the same tenant, server or fleet before it is refused.
OPERATION_WAIT_S = env.number("OPERATION_WAIT_S", default=3.0)
# Limits that each tenant's server enforces on its role, no matter who has the password
# (`tenants.servers.session.logins`).
TENANT_ROLE_CONNECTIONS = env.whole_number("TENANT_ROLE_CONNECTIONS", default=20, least=1)
TENANT_ROLE_STATEMENT_TIMEOUT_S = env.number("TENANT_ROLE_STATEMENT_TIMEOUT_S", default=300.0, most=DAY_S)
TENANT_ROLE_LOCK_TIMEOUT_S = env.number("TENANT_ROLE_LOCK_TIMEOUT_S", default=60.0, most=DAY_S)
TENANT_ROLE_IDLE_IN_TRANSACTION_TIMEOUT_S = env.number(
    "TENANT_ROLE_IDLE_IN_TRANSACTION_TIMEOUT_S", default=60.0, most=DAY_S
)
# Fernet keys. The first one encrypts and all decrypt, so that keys can be rotated.
ENCRYPTION_KEYS = env.list("SEO_GEN_ENCRYPTION_KEYS")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- Cache, sessions, Celery ---------------------------------------------------------------------------------------
CACHES = {
    "default": {
        "BACKEND": "config.base.redis_cache.JSONCache",
        "LOCATION": env.address("CACHE_URL"),
        "KEY_PREFIX": "seo-gen",
    }
}
SESSION_COOKIE_NAME = "seo_gen_session"
SESSION_COOKIE_AGE = env.whole_number("SESSION_COOKIE_AGE_S", default=12 * 60 * 60, least=1)
# HTTPS only, unless only the loopback interface is served.
SESSION_COOKIE_SECURE = env.bool("SESSION_COOKIE_SECURE", default=not on_loopback_alone(ALLOWED_HOSTS))
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE
CSRF_FAILURE_VIEW = "config.site.frame.errors.csrf_failure"
# Turn this off if a proxy serves the static files.
WHITENOISE_USE_FINDERS = env.bool("WHITENOISE_USE_FINDERS", default=True)
LOGIN_URL = "admin:login"
# For logins without a `next` page, or with one on another site.
LOGIN_REDIRECT_URL = "admin:index"

CELERY_BROKER_URL = env.address("CELERY_BROKER_URL")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# The lease in the database decides which worker runs a step; late acknowledgement only detects lost messages sooner.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# Drops messages that this application did not send, and answers only questions about the worker.
CELERY_WORKER_CONSUMER = "config.queue.worker:Consumer"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# A step mostly waits for its model, so one process executes many, each in a thread.
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = env.whole_number("WORKER_CONCURRENCY", default=64, least=1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = False
CELERY_TIMEZONE = "UTC"
# The queue name separates tests and installations that share a broker.
CELERY_TASK_DEFAULT_QUEUE = env.str("CELERY_QUEUE", default="seo-gen")
# RabbitMQ only: "classic", or "quorum" for a queue that several servers keep.
CELERY_TASK_DEFAULT_QUEUE_TYPE = env.choice("CELERY_QUEUE_TYPE", ("classic", "quorum"), default="classic")
if CELERY_TASK_DEFAULT_QUEUE_TYPE == "quorum":
    # Celery then keeps delayed messages in RabbitMQ, which needs an exchange of this type.
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
RUN_SWEEP_INTERVAL_S = env.number("RUN_SWEEP_INTERVAL_S", default=15.0, least=0.1)
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "runs.sweep": {"task": "runs.sweep", "schedule": RUN_SWEEP_INTERVAL_S},
    "tenants.operations_sweep": {"task": "tenants.operations_sweep", "schedule": RUN_SWEEP_INTERVAL_S},
}
CELERY_BEAT_SCHEDULER = "config.queue.schedule:Scheduler"
CELERY_BEAT_SCHEDULE_FILENAME = str(HOME / "celerybeat-schedule")

# -- Runs ----------------------------------------------------------------------------------------------------------
RUN_LEASE_S = env.number("RUN_LEASE_S", default=60.0, least=0.1)
# How long a failing step is retried, from its first failure; a run's configuration may set its own.
RUN_RETRY_BUDGET_S = env.number("RUN_RETRY_BUDGET_S", default=24 * 60 * 60.0)
# How many calls of a step may return something unusable, which may be billed, before the step fails.
RUN_MAX_ATTEMPTS = env.whole_number("RUN_MAX_ATTEMPTS", default=5, least=1)
# How many times in a row a step's worker may be lost before the step fails.
RUN_MAX_LOST_WORKERS = env.whole_number("RUN_MAX_LOST_WORKERS", default=5, least=1)
# How long a worker keeps a reply that it cannot store, because the tenant is suspended, locked or unreachable.
RUN_REPLY_KEPT_S = env.number("RUN_REPLY_KEPT_S", default=600.0)
# Open connections of one worker to the control database.
WORKER_CONTROL_CONNECTIONS_MAX = env.whole_number("WORKER_CONTROL_CONNECTIONS_MAX", default=8, least=1)
# How long a worker's thread waits for one of them.
WORKER_CONTROL_CONNECTION_WAIT_S = env.number("WORKER_CONTROL_CONNECTION_WAIT_S", default=30.0)
# How long a worker that was told to stop waits for its calls before it returns their steps.
WORKER_STOP_WAIT_S = env.number("WORKER_STOP_WAIT_S", default=30.0)
# The audit log and the log warn once this part of a tenant's monthly budget is spent or reserved.
BUDGET_WARNING_PERCENT = env.number("BUDGET_WARNING_PERCENT", default=80.0, least=0.1, most=100)
# Whether calls of models without a known price may begin although they count against a budget.
BUDGET_ALLOWS_UNPRICED = env.bool("BUDGET_ALLOWS_UNPRICED", default=False)
# How many steps of one tenant may run at a time, across all workers; the tenant's row may set another number.
RUN_TENANT_CONCURRENCY = env.whole_number("RUN_TENANT_CONCURRENCY", default=48, least=1)
# For one whole call, and for each wait for the next part of a streamed reply.
LLM_TIMEOUT_S = env.number("LLM_TIMEOUT_S", default=600.0, least=0.1)
LLM_STALL_TIMEOUT_S = env.number("LLM_STALL_TIMEOUT_S", default=120.0, least=0.1)
LOCAL_LLM_URL = env.address("LOCAL_LLM_URL", default="")
# After this many faults of a provider in a row, all within the window after the first, its model gets no calls for
# LLM_BREAKER_OPEN_S. Then one call tries the model again. Each time it fails, that time doubles, up to the maximum.
LLM_BREAKER_FAULTS = env.whole_number("LLM_BREAKER_FAULTS", default=5, least=1)
LLM_BREAKER_WINDOW_S = env.number("LLM_BREAKER_WINDOW_S", default=60.0, least=0.1)
LLM_BREAKER_OPEN_S = env.number("LLM_BREAKER_OPEN_S", default=30.0, least=0.1)
LLM_BREAKER_OPEN_MAX_S = env.number("LLM_BREAKER_OPEN_MAX_S", default=300.0, least=0.1)
# Hosts that a provider's base URL may use in addition to the vendors' own: "host", "host:port".
LLM_ALLOWED_HOSTS = env.list("LLM_ALLOWED_HOSTS", default=[])

# -- Storage -------------------------------------------------------------------------------------------------------
STORAGE_ROOT = Path(env.str("STORAGE_ROOT", default=str(HOME)))
AWS_STORAGE_BUCKET_NAME = env.str("AWS_STORAGE_BUCKET_NAME", default="")
# For artifacts and backups; None: boto3 uses its own defaults.
AWS_S3_ENDPOINT_URL = env.str("AWS_S3_ENDPOINT_URL", default=None)
AWS_S3_REGION_NAME = env.str("AWS_S3_REGION_NAME", default=None)
AWS_ACCESS_KEY_ID = env.str("AWS_ACCESS_KEY_ID", default=None)
AWS_SECRET_ACCESS_KEY = env.str("AWS_SECRET_ACCESS_KEY", default=None)
# Whether requests and responses carry the SDK's newer checksums whenever possible ("when_supported") or only if S3
# requires one. Many compatible servers reject them. Signatures protect requests, and sha256 digests what we store.
_CHECKSUMS = ("when_required", "when_supported")
AWS_REQUEST_CHECKSUM_CALCULATION = env.choice("AWS_REQUEST_CHECKSUM_CALCULATION", _CHECKSUMS, default="when_required")
AWS_RESPONSE_CHECKSUM_VALIDATION = env.choice("AWS_RESPONSE_CHECKSUM_VALIDATION", _CHECKSUMS, default="when_required")
STORAGES: dict[str, dict[str, Any]] = {
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": HOME / "media"}},
}
if AWS_STORAGE_BUCKET_NAME:
    STORAGES["artifacts"] = {
        "BACKEND": "tenants.files.s3_storage.ArtifactStorage",
        "OPTIONS": {
            "bucket_name": AWS_STORAGE_BUCKET_NAME,
            "endpoint_url": AWS_S3_ENDPOINT_URL,
            "region_name": AWS_S3_REGION_NAME,
            "access_key": AWS_ACCESS_KEY_ID,
            "secret_key": AWS_SECRET_ACCESS_KEY,
            "file_overwrite": True,
            "default_acl": None,
        },
    }
else:
    STORAGES["artifacts"] = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": STORAGE_ROOT, "file_permissions_mode": 0o640, "directory_permissions_mode": 0o750},
    }

# -- Backups -------------------------------------------------------------------------------------------------------
# The default age recipients (public keys) of backups, and the file with the age identity (private key) that decrypts
# them, if this machine is allowed to.
BACKUP_AGE_RECIPIENT = env.str("BACKUP_AGE_RECIPIENT", default="")
BACKUP_AGE_IDENTITY_FILE = env.str("BACKUP_AGE_IDENTITY_FILE", default="")
# Destination of the daily backup of all tenants, a folder or s3://bucket/prefix; "" for no daily backup.
BACKUP_DAILY_OUTPUT = env.str("BACKUP_DAILY_OUTPUT", default="")
# Where the backups go that staff ask for in the admin: a folder or s3://bucket/prefix; "" for the daily backup's
# destination, or else a folder in SEO_GEN_HOME.
BACKUP_OUTPUT = env.str("BACKUP_OUTPUT", default="") or BACKUP_DAILY_OUTPUT or str(HOME / "backups")
# The same for exports; "" for a folder in SEO_GEN_HOME.
EXPORT_OUTPUT = env.str("EXPORT_OUTPUT", default="") or str(HOME / "exports")
# After this, an export that staff asked for in the admin is removed.
EXPORT_RETENTION_DAYS = env.whole_number("EXPORT_RETENTION_DAYS", default=7, most=CENTURY_DAYS)
# Hour of the daily backup, UTC (`config.queue.schedule`).
BACKUP_DAILY_HOUR = env.whole_number("BACKUP_DAILY_HOUR", default=18, most=23)
BACKUP_RETENTION_DAYS = env.whole_number("BACKUP_RETENTION_DAYS", default=30, most=CENTURY_DAYS)
# How long a replaced database is kept for `tenant restore --undo`.
RESTORE_UNDO_DAYS = env.whole_number("RESTORE_UNDO_DAYS", default=7, most=CENTURY_DAYS)
# While a dump is loaded: how long it may make no progress, and how many times its size it may use on disk (1 GiB is
# always allowed).
RESTORE_STALL_S = env.number("RESTORE_STALL_S", default=900.0, least=0.1)
RESTORE_MAX_GROWTH = env.whole_number("RESTORE_MAX_GROWTH", default=100, least=1)
# Destination of base backups of whole servers; "" for a folder in SEO_GEN_HOME.
CLUSTER_BACKUP_OUTPUT = env.str("CLUSTER_BACKUP_OUTPUT", default="") or str(HOME / "base-backups")
CLUSTER_BACKUP_RETENTION_DAYS = env.whole_number("CLUSTER_BACKUP_RETENTION_DAYS", default=14, most=CENTURY_DAYS)

# -- Operations requested in the admin -------------------------------------------------------------------------------
# How long a worker holds an operation without a sign of life, and how many it runs at a time.
OPERATION_LEASE_S = env.number("OPERATION_LEASE_S", default=60.0, least=0.1)
WORKER_OPERATIONS_MAX = env.whole_number("WORKER_OPERATIONS_MAX", default=2, least=1)
# What needs the approval of a second person, of "delete", "export", "prompt-copy-all" and "price-by-hand", and how long
# an approval can be given and used after it was requested.
TWO_PERSON_OPERATIONS = env.choices("TWO_PERSON_OPERATIONS", KINDS)
APPROVAL_VALID_HOURS = env.whole_number("APPROVAL_VALID_HOURS", default=24, least=1, most=24 * CENTURY_DAYS)

# -- Audit ---------------------------------------------------------------------------------------------------------
# How often beat anchors the audit logs; 0 for never.
AUDIT_ANCHOR_INTERVAL_S = env.number("AUDIT_ANCHOR_INTERVAL_S", default=3600.0)
# An additional place for the anchors, a folder or s3://bucket/prefix; "" for none. And the number of days for which
# S3's object lock prevents anyone from removing them.
AUDIT_ANCHOR_OUTPUT = env.str("AUDIT_ANCHOR_OUTPUT", default="")
AUDIT_ANCHOR_LOCK_DAYS = env.whole_number("AUDIT_ANCHOR_LOCK_DAYS", default=0, most=CENTURY_DAYS)
if AUDIT_ANCHOR_INTERVAL_S > 0:
    CELERY_BEAT_SCHEDULE["tenants.audit_anchor"] = {
        "task": "tenants.audit_anchor",
        "schedule": AUDIT_ANCHOR_INTERVAL_S,
    }

# -- Web -----------------------------------------------------------------------------------------------------------
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CSP = CONTENT_SECURITY_POLICY
# For use behind a proxy that terminates TLS (docs/configuration.md).
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=False)
SECURE_PROXY_SSL_HEADER = proxy_header(env.str("SECURE_PROXY_SSL_HEADER", default=""))
SECURE_HSTS_SECONDS = env.whole_number("SECURE_HSTS_SECONDS", default=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=True)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", default=False)
# Browsers' preload lists affect a whole domain for years, so one of its hosts must not opt in by default.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
STATIC_URL = "static/"
STATIC_ROOT = HOME / "static"
LANGUAGES = [("en", _("English")), ("ja", _("Japanese"))]
# What commands and workers write, and pages for browsers that ask for neither language.
LANGUAGE_CODE = env.choice("LANGUAGE_CODE", [code for code, _name in LANGUAGES], default="en")
LOCALE_PATHS = [BASE_DIR / "locale"]
# What a person chose in the account menu; otherwise the browser's language is used.
LANGUAGE_COOKIE_NAME = "seo_gen_language"
LANGUAGE_COOKIE_AGE = 365 * 24 * 60 * 60
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_SECURE = SESSION_COOKIE_SECURE
FORMAT_MODULE_PATH = "config.site.formats"
TIME_ZONE = env.time_zone("TIME_ZONE", default="Asia/Tokyo")
USE_TZ = True
# The first one refuses logins that are locked, so that no other one checks their passwords. Permissions come from roles
# (`tenants.access.roles`), never from Django's own permissions and groups.
AUTHENTICATION_BACKENDS = [
    "config.site.sign_in.backends.ThrottleBackend",
    "tenants.routing.staff_backend.RolesBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# -- Sign-in (docs/sign_in.md) -------------------------------------------------------------------------------------
# Failed logins with one name from one address, and from one address, before they are locked for LOGIN_LOCK_S.
LOGIN_FAILURES_MAX = env.whole_number("LOGIN_FAILURES_MAX", default=5, least=1)
LOGIN_ADDRESS_FAILURES_MAX = env.whole_number("LOGIN_ADDRESS_FAILURES_MAX", default=50, least=1)
LOGIN_LOCK_S = env.whole_number("LOGIN_LOCK_S", default=900, least=1)
# Addresses or networks of the proxies whose X-Forwarded-For is believed.
TRUSTED_PROXIES = networks(env.list("TRUSTED_PROXIES", default=[]))
# How long a session may be unused; 0 for as long as it lasts (SESSION_COOKIE_AGE_S).
SESSION_IDLE_TIMEOUT_S = env.whole_number("SESSION_IDLE_TIMEOUT_S", default=2 * 60 * 60)
SECOND_FACTOR = env.choice("SECOND_FACTOR", ("off", "optional", "required"), default="optional")
# Whether accounts may log in with a password; if not, only a superuser whom `staff allow-password` permits.
PASSWORD_LOGIN = env.bool("PASSWORD_LOGIN", default=True)
# The OpenID Connect provider; "" for none. The addresses come from its discovery document unless they are set.
OIDC_ISSUER = env.str("OIDC_ISSUER", default="")
OIDC_CLIENT_ID = env.str("OIDC_CLIENT_ID", default="")
OIDC_CLIENT_SECRET = env.str("OIDC_CLIENT_SECRET", default="")
OIDC_AUTHORIZATION_ENDPOINT = env.str("OIDC_AUTHORIZATION_ENDPOINT", default="")
OIDC_TOKEN_ENDPOINT = env.str("OIDC_TOKEN_ENDPOINT", default="")
OIDC_JWKS_URI = env.str("OIDC_JWKS_URI", default="")
# The provider's name on the login page.
OIDC_NAME = env.str("OIDC_NAME", default="OpenID Connect")
OIDC_SCOPES = env.str("OIDC_SCOPES", default="openid email profile")
# The claim that names the account; "email" also finds the account with this address.
OIDC_USERNAME_CLAIM = env.str("OIDC_USERNAME_CLAIM", default="email")
# If not empty, only verified e-mail addresses in these domains may log in.
OIDC_ALLOWED_DOMAINS = [domain.lower() for domain in env.list("OIDC_ALLOWED_DOMAINS", default=[])]
# What happens to people without an account here.
OIDC_NEW_USERS = env.choice("OIDC_NEW_USERS", ("refuse", "create"), default="refuse")
# Whether the provider's login is enough although SECOND_FACTOR is required, or the account has one.
OIDC_SKIPS_SECOND_FACTOR = env.bool("OIDC_SKIPS_SECOND_FACTOR", default=False)

LOGGING = logs.configuration(
    log_format=env.str("LOG_FORMAT", default="") or "plain", level=env.str("LOG_LEVEL", default="") or "WARNING"
)
