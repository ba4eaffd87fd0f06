# SPDX-License-Identifier: Apache-2.0
"""The wire contract's style: the rules known as buf's STANDARD set, checked on what protoc read."""
import re
import subprocess
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from source_files import files, main

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")
# Messages that others defined, and named.
FOREIGN = ("lockstep/rpc/",)


def upper_snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def check_enum(enum, where):
    for value in enum.value:
        if not value.name.startswith(upper_snake(enum.name) + "_"):
            yield f"{where}{enum.name}.{value.name}: must start with {upper_snake(enum.name)}_"
    if enum.value[0].name != upper_snake(enum.name) + "_UNSPECIFIED":
        yield f"{where}{enum.name}: its zero must be {upper_snake(enum.name)}_UNSPECIFIED"


def check_message(message, where):
    if not PASCAL.fullmatch(message.name):
        yield f"{where}{message.name}: a message is named in PascalCase"
    where = f"{where}{message.name}."
    for field in [*message.field, *message.oneof_decl]:
        if not SNAKE.fullmatch(field.name.lstrip("_")):
            yield f"{where}{field.name}: a field is named in lower_snake_case"
    for nested in message.nested_type:
        yield from check_message(nested, where)
    for enum in message.enum_type:
        yield from check_enum(enum, where)


def check_service(file, index, where, used):
    service = file.service[index]
    if not service.name.endswith("Service"):
        yield f"{where}{service.name}: a service's name ends in Service"
    commented = {tuple(l.path) for l in file.source_code_info.location if l.leading_comments}
    for number, method in enumerate(service.method):
        if (6, index, 2, number) not in commented:
            yield f"{where}{service.name}.{method.name}: needs a comment"
        for suffix, kind in (("Request", method.input_type), ("Response", method.output_type)):
            if kind.split(".")[-1] != method.name + suffix:
                yield f"{where}{service.name}.{method.name}: must use {method.name}{suffix}, not {kind}"
            if kind in used:
                yield f"{where}{service.name}.{method.name}: {kind} is used by another RPC"
            used.add(kind)


def check_file(file, used):
    where = f"{file.name}: "
    if not re.fullmatch(r"[a-z0-9_.]+\.v[0-9]+", file.package):
        yield f"{where}the package '{file.package}' must end in a version"
    if str(Path(file.name).parent) != file.package.replace(".", "/"):
        yield f"{where}must lie in the folder {file.package.replace('.', '/')}"
    if not SNAKE.fullmatch(Path(file.name).stem):
        yield f"{where}a file is named in lower_snake_case"
    for message in file.message_type:
        yield from check_message(message, where)
    for enum in file.enum_type:
        yield from check_enum(enum, where)
    for index in range(len(file.service)):
        yield from check_service(file, index, where, used)


def check(root):
    protos = [str(p.relative_to("proto")) for p in files(root, (".proto",)) if p.parts[0] == "proto"]
    with tempfile.NamedTemporaryFile() as out:
        run = subprocess.run(["protoc", "--include_source_info", f"-I{root / 'proto'}", f"-o{out.name}", *protos],
                             capture_output=True, text=True, check=False)
        # A warning (an unused import, say) counts as an error.
        messages = run.stderr.splitlines()
        if run.returncode == 0:
            used = set()
            for file in descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file:
                if not file.name.startswith(FOREIGN):
                    messages += check_file(file, used)
    return messages


def sample(body, name="proto/a/v1/a.proto", package="a.v1"):
    return {name: f'syntax = "proto3";\npackage {package};\n{body}\n'}


REQUESTS = "message GetJobRequest {}\nmessage GetJobResponse {}\n"
main(check, [
    (sample("", package="a.v2"), "must lie in the folder a/v2"),
    (sample("", name="proto/a/a.proto", package="a"), "must end in a version"),
    (sample("message job {}"), "PascalCase"),
    (sample("message A { int32 camelCase = 1; }"), "lower_snake_case"),
    (sample("enum Color { COLOR_RED = 0; }"), "COLOR_UNSPECIFIED"),
    (sample("enum Color { COLOR_UNSPECIFIED = 0; RED = 1; }"), "must start with COLOR_"),
    (sample(REQUESTS + "service Jobs {\n  // Gets.\n  rpc GetJob(GetJobRequest) returns (GetJobResponse);\n}"),
     "ends in Service"),
    (sample(REQUESTS + "service AService {\n  rpc GetJob(GetJobRequest) returns (GetJobResponse);\n}"),
     "needs a comment"),
    (sample(REQUESTS + "service AService {\n  // Gets.\n  rpc GetIt(GetJobRequest) returns (GetJobResponse);\n}"),
     "must use GetItRequest"),
    (sample('import "google/protobuf/empty.proto";'), "unused"),
])
