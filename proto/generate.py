"""Generate meshobs/pb from proto/ with grpcio-tools: `python proto/generate.py [TARGET]`, as `make proto` does."""

import re
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

SOURCE = Path(__file__).resolve().parent
# protoc writes `from flow import flow_pb2`; our modules live below meshobs.pb.
IMPORT = re.compile(r"^from (flow|relay|observer|peer)(?= import)", re.MULTILINE)
IMPORT_DOTTED = re.compile(r"^from (flow|relay|observer|peer)\.", re.MULTILINE)


def generate(target: Path) -> None:
    """Write the modules and stubs of every .proto file below `target`.

    Raises:
        SystemExit: protoc refused a file; it has said why.
    """
    target.mkdir(parents=True, exist_ok=True)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    protos = sorted(SOURCE.glob("*/*.proto"))
    options = [f"-I{SOURCE}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}"]
    if code := protoc.main(["protoc", *options, *map(str, protos)]):
        raise SystemExit(code)
    for module in [*target.rglob("*_pb2.py"), *target.rglob("*_pb2.pyi")]:
        text = IMPORT.sub(r"from meshobs.pb.\1", module.read_text())
        module.write_text(IMPORT_DOTTED.sub(r"from meshobs.pb.\1.", text))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE.parent / "meshobs" / "pb")
