"""Kinds of Kubernetes objects, as the API and its access rules name them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """A kind of object, as the API and its access rules name it."""

    group: str
    version: str
    plural: str
    kind: str = ""

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the URL's path of all objects, those of a namespace, or one of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            root + (f"/namespaces/{namespace}" if namespace else "") + f"/{self.plural}" + (f"/{name}" if name else "")
        )

    def rule(self, *verbs: str, namespace: str = "") -> str:
        """Return the access rule to ask an administrator for."""
        where = f" in namespace {namespace}" if namespace else ""
        named = ", ".join(f'"{verb}"' for verb in verbs)
        return (
            f'grant{where} rule apiGroups ["{self.group}"] resources ["{self.plural}"] verbs [{named}] (docs/rbac.yaml)'
        )
