from django.apps import AppConfig


class CustomersConfig(AppConfig):
    name = "benchmarks.schema_tenants.customers"
    label = "customers"
