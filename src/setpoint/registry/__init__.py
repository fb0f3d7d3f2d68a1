"""Bundles in a local OCI image layout: content store, versions, aliases."""

from setpoint.registry.bundle import Bundle, BundleFile
from setpoint.registry.reference import Reference, check_name
from setpoint.registry.registry import Registry
from setpoint.registry.sources import open_model, pack_source

__all__ = ["Bundle", "BundleFile", "Reference", "Registry", "check_name", "open_model", "pack_source"]
