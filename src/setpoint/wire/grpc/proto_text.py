"""Reads ``.proto`` text into a ``FileDescriptorProto``: the part of the language that our own files use.

protoc would do it when the package is built and leave generated code, which registers its messages in the process's one
default pool. tritonclient, kserve and mlserver do so with these same names, and no two of them can share a process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_WORD = re.compile(r'//[^\n]*|"[^"]*"|[\w.]+|[{}()=;<>,]')
_SCALARS = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
}


def file_of(text: str, name: str) -> FileDescriptorProto:
    """Read a file.

    Args:
        text: of our own; what it may hold is what is read below, and anything else is a bug that a test would find.
        name: the file's, as reflection shows it.
    """
    return _Reader(text, name).file


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self._words: Iterator[str] = (word for word in _WORD.findall(text) if not word.startswith("//"))
        self._enums: set[str] = set()
        self._messages: set[str] = set()
        self._unresolved: list[tuple[str, FieldDescriptorProto]] = []
        self.file = FileDescriptorProto(name=name, syntax="proto3")
        for word in self._words:
            if word == "syntax":
                self._skip(3)
            elif word == "package":
                self.file.package = next(self._words)
                self._skip(1)
            elif word == "message":
                self._message(self.file.message_type.add(), self.file.package)
            elif word == "enum":
                self._enum(self.file.enum_type.add(), self.file.package)
            else:
                self._service()
        for scope, field in self._unresolved:
            self._resolve(scope, field)

    def _skip(self, count: int) -> None:
        for _ in range(count):
            next(self._words)

    def _message(self, message: DescriptorProto, scope: str) -> None:
        message.name = next(self._words)
        scope = f"{scope}.{message.name}"
        self._messages.add(scope)
        self._skip(1)
        for word in self._words:
            if word == "}":
                return
            if word == "message":
                self._message(message.nested_type.add(), scope)
            elif word == "enum":
                self._enum(message.enum_type.add(), scope)
            elif word == "oneof":
                message.oneof_decl.add(name=next(self._words))
                self._skip(1)
                for kind in self._words:
                    if kind == "}":
                        break
                    self._field(message, scope, kind).oneof_index = len(message.oneof_decl) - 1
            elif word == "map":
                self._map(message, scope)
            elif word == "repeated":
                self._field(message, scope, next(self._words)).label = FieldDescriptorProto.LABEL_REPEATED
            else:
                self._field(message, scope, word)

    def _field(self, message: DescriptorProto, scope: str, kind: str) -> FieldDescriptorProto:
        """What follows a field's type: ``name = number;``."""
        name = next(self._words)
        self._skip(1)
        return self._add_field(message, scope, kind, name, int(next(self._words)), terminated=True)

    def _add_field(
        self, message: DescriptorProto, scope: str, kind: str, name: str, number: int, *, terminated: bool = False
    ) -> FieldDescriptorProto:
        if terminated:
            self._skip(1)
        parts = name.split("_")
        field = message.field.add(
            name=name,
            json_name=parts[0] + "".join(part.capitalize() for part in parts[1:]),
            number=number,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type_name = kind
            self._unresolved.append((scope, field))
        return field

    def _map(self, message: DescriptorProto, scope: str) -> None:
        """A map is a list of entries, each a message with a key and a value."""
        _, key, _, value, _, name, _, number, _ = (next(self._words) for _ in range(9))
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        self._messages.add(f"{scope}.{entry.name}")
        self._add_field(entry, scope, key, "key", 1)
        self._add_field(entry, scope, value, "value", 2)
        field = self._add_field(message, scope, entry.name, name, int(number))
        field.label = FieldDescriptorProto.LABEL_REPEATED

    def _enum(self, enum: EnumDescriptorProto, scope: str) -> None:
        enum.name = next(self._words)
        self._enums.add(f"{scope}.{enum.name}")
        self._skip(1)
        for name in self._words:
            if name == "}":
                return
            self._skip(1)
            enum.value.add(name=name, number=int(next(self._words)))
            self._skip(1)

    def _service(self) -> None:
        service = self.file.service.add(name=next(self._words))
        self._skip(1)
        for word in self._words:
            if word == "}":
                return
            method = service.method.add(name=next(self._words))
            method.input_type, method.client_streaming = self._argument()
            self._skip(1)
            method.output_type, method.server_streaming = self._argument()
            self._skip(1)

    def _argument(self) -> tuple[str, bool]:
        self._skip(1)
        name = next(self._words)
        streams = name == "stream"
        if streams:
            name = next(self._words)
        self._skip(1)
        return f".{self.file.package}.{name}", streams

    def _resolve(self, scope: str, field: FieldDescriptorProto) -> None:
        """Names are looked for in the innermost scope first."""
        while True:
            name = f"{scope}.{field.type_name}"
            if name in self._messages or name in self._enums:
                break
            scope = scope.rpartition(".")[0]
        field.type = FieldDescriptorProto.TYPE_ENUM if name in self._enums else FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{name}"
