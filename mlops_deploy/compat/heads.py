"""Formats that are told, and read, by the text at the file's beginning or end: XGBoost, LightGBM, safetensors, GGUF."""

import json
import re
import struct
from collections.abc import Callable
from typing import Final

from mlops_deploy.compat.reader import MOST, Parser, Rest, Skip, told
from mlops_deploy.compat.ubj import last_version
from mlops_deploy.compat.versions import at_least
from mlops_deploy.spec.requires import Sniffed

_XGBOOST_JSON: Final = re.compile(rb'\s*\{\s*"(?:learner|version)"\s*:')
_XGBOOST_UBJ: Final = re.compile(rb"\{(?:L.{8}|[iU].|I.{2}|l.{4})(?:learner|version)[\[{]", re.DOTALL)
_JSON_VERSION: Final = re.compile(rb'"version"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]')
_LIGHTGBM: Final = re.compile(rb"tree\r?\nversion=v(\d+)\r?\n")
_GGUF: Final = re.compile(rb"GGUF[\x01-\xff]\x00\x00\x00")
_TENSORS: Final = re.compile(rb'\{\s*(?:"__metadata__"\s*:\s*\{|"[^"]*"\s*:\s*\{\s*"(?:dtype|shape|data_offsets)"|\})')
_LARGEST_HEADER: Final = 100_000_000
_GGUF_HEAD: Final = struct.Struct("<4xIQQQ")
_MOST_GGUF: Final = 2**20
_KEPT: Final = 4096


def begin(head: bytes) -> Parser | None:
    """The parser when `head` begins a file of one of these."""
    if _XGBOOST_JSON.match(head):
        return _xgboost(_json_version)
    if _XGBOOST_UBJ.match(head):
        return _xgboost(last_version)
    if match := _LIGHTGBM.match(head):
        return told(Sniffed(format="lightgbm", requires=at_least("lightgbm", match[1].decode())))
    if _GGUF.match(head):
        return told(Sniffed(format="gguf", damaged=_gguf_damage(head)))
    size = int.from_bytes(head[:8], "little")
    return _safetensors(size) if size < _LARGEST_HEADER and _TENSORS.match(head, 8) else None


def _safetensors(size: int) -> Parser:
    """Its header says how many bytes of tensors follow; a very large one is believed."""
    if size > MOST:
        return Sniffed(format="safetensors")
    yield 8
    try:
        header = yield size
        tensors = [said for name, said in json.loads(header).items() if name != "__metadata__"]
        yield Skip(max((int(said["data_offsets"][1]) for said in tensors), default=0))
    except EOFError:
        return Sniffed(format="safetensors", damaged="it ends before the tensors do that its header lists")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return Sniffed(format="safetensors", damaged="its header cannot be read")
    return Sniffed(format="safetensors")


def _gguf_damage(head: bytes) -> str | None:
    """What follows the magic since version 2: how many tensors and keys there are, then the first key."""
    if len(head) >= _GGUF_HEAD.size:
        version, tensors, keys, length = _GGUF_HEAD.unpack_from(head)
        key = head[_GGUF_HEAD.size : _GGUF_HEAD.size + length]
        if version == 1 or not keys or (max(tensors, keys, length) <= _MOST_GGUF and key.isascii()):
            return None
    return "its header cannot be read"


def _xgboost(version: Callable[[bytes], str | None]) -> Parser:
    """The keys are in order, so that `version` follows the trees."""
    found = version((yield Rest(_KEPT)))
    return Sniffed(format="xgboost", requires=at_least("xgboost", found)) if found else Sniffed()


def _json_version(tail: bytes) -> str | None:
    found = _JSON_VERSION.findall(tail)
    return ".".join(number.decode() for number in found[-1]) if found else None
