from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("hello", "heartbeat", "feed_request", "feed_reply", "trie_request", "trie_reply", "records_request", "records_reply", "rumour", "attestations_request", "attestations", "tensors_request", "tensors_reply", "compare_request", "compare_reply", "peers_request", "peers_reply", "probe_request", "probe_reply", "goodbye")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    FEED_REQUEST_FIELD_NUMBER: _ClassVar[int]
    FEED_REPLY_FIELD_NUMBER: _ClassVar[int]
    TRIE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    TRIE_REPLY_FIELD_NUMBER: _ClassVar[int]
    RECORDS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RECORDS_REPLY_FIELD_NUMBER: _ClassVar[int]
    RUMOUR_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    TENSORS_REPLY_FIELD_NUMBER: _ClassVar[int]
    COMPARE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    COMPARE_REPLY_FIELD_NUMBER: _ClassVar[int]
    PEERS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PEERS_REPLY_FIELD_NUMBER: _ClassVar[int]
    PROBE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PROBE_REPLY_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    feed_request: FeedRequest
    feed_reply: FeedReply
    trie_request: TrieRequest
    trie_reply: TrieReply
    records_request: RecordsRequest
    records_reply: RecordsReply
    rumour: Rumour
    attestations_request: AttestationsRequest
    attestations: Attestations
    tensors_request: TensorsRequest
    tensors_reply: TensorsReply
    compare_request: CompareRequest
    compare_reply: CompareReply
    peers_request: PeersRequest
    peers_reply: PeersReply
    probe_request: ProbeRequest
    probe_reply: ProbeReply
    goodbye: Goodbye
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., feed_request: _Optional[_Union[FeedRequest, _Mapping]] = ..., feed_reply: _Optional[_Union[FeedReply, _Mapping]] = ..., trie_request: _Optional[_Union[TrieRequest, _Mapping]] = ..., trie_reply: _Optional[_Union[TrieReply, _Mapping]] = ..., records_request: _Optional[_Union[RecordsRequest, _Mapping]] = ..., records_reply: _Optional[_Union[RecordsReply, _Mapping]] = ..., rumour: _Optional[_Union[Rumour, _Mapping]] = ..., attestations_request: _Optional[_Union[AttestationsRequest, _Mapping]] = ..., attestations: _Optional[_Union[Attestations, _Mapping]] = ..., tensors_request: _Optional[_Union[TensorsRequest, _Mapping]] = ..., tensors_reply: _Optional[_Union[TensorsReply, _Mapping]] = ..., compare_request: _Optional[_Union[CompareRequest, _Mapping]] = ..., compare_reply: _Optional[_Union[CompareReply, _Mapping]] = ..., peers_request: _Optional[_Union[PeersRequest, _Mapping]] = ..., peers_reply: _Optional[_Union[PeersReply, _Mapping]] = ..., probe_request: _Optional[_Union[ProbeRequest, _Mapping]] = ..., probe_reply: _Optional[_Union[ProbeReply, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ...) -> None: ...

class SignedRecord(_message.Message):
    __slots__ = ("data", "signature")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    signature: bytes
    def __init__(self, data: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "agent", "heard", "features", "oldest", "newest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    agent: str
    heard: bool
    features: int
    oldest: int
    newest: int
    def __init__(self, version: _Optional[int] = ..., agent: _Optional[str] = ..., heard: _Optional[bool] = ..., features: _Optional[int] = ..., oldest: _Optional[int] = ..., newest: _Optional[int] = ...) -> None: ...

class PeersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeersReply(_message.Message):
    __slots__ = ("peers",)
    PEERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[PeerSaid]
    def __init__(self, peers: _Optional[_Iterable[_Union[PeerSaid, _Mapping]]] = ...) -> None: ...

class PeerSaid(_message.Message):
    __slots__ = ("node", "addresses", "age_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    node: bytes
    addresses: _containers.RepeatedScalarFieldContainer[str]
    age_s: int
    def __init__(self, node: _Optional[bytes] = ..., addresses: _Optional[_Iterable[str]] = ..., age_s: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProbeReply(_message.Message):
    __slots__ = ("found", "wait_s", "seen_from")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    SEEN_FROM_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedCompositeFieldContainer[Probed]
    wait_s: int
    seen_from: str
    def __init__(self, found: _Optional[_Iterable[_Union[Probed, _Mapping]]] = ..., wait_s: _Optional[int] = ..., seen_from: _Optional[str] = ...) -> None: ...

class Probed(_message.Message):
    __slots__ = ("address", "outcome")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    address: str
    outcome: int
    def __init__(self, address: _Optional[str] = ..., outcome: _Optional[int] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("space", "root", "count", "generation", "sequence", "answered", "echo", "attested")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    root: bytes
    count: int
    generation: bytes
    sequence: int
    answered: int
    echo: bool
    attested: bytes
    def __init__(self, space: _Optional[bytes] = ..., root: _Optional[bytes] = ..., count: _Optional[int] = ..., generation: _Optional[bytes] = ..., sequence: _Optional[int] = ..., answered: _Optional[int] = ..., echo: _Optional[bool] = ..., attested: _Optional[bytes] = ...) -> None: ...

class FeedRequest(_message.Message):
    __slots__ = ("space", "generation", "after", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    generation: bytes
    after: int
    number: int
    def __init__(self, space: _Optional[bytes] = ..., generation: _Optional[bytes] = ..., after: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class FeedReply(_message.Message):
    __slots__ = ("space", "generation", "through", "more", "records", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    generation: bytes
    through: int
    more: bool
    records: _containers.RepeatedCompositeFieldContainer[SignedRecord]
    number: int
    def __init__(self, space: _Optional[bytes] = ..., generation: _Optional[bytes] = ..., through: _Optional[int] = ..., more: _Optional[bool] = ..., records: _Optional[_Iterable[_Union[SignedRecord, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class TrieRequest(_message.Message):
    __slots__ = ("space", "prefixes", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    prefixes: _containers.RepeatedScalarFieldContainer[bytes]
    number: int
    def __init__(self, space: _Optional[bytes] = ..., prefixes: _Optional[_Iterable[bytes]] = ..., number: _Optional[int] = ...) -> None: ...

class TrieReply(_message.Message):
    __slots__ = ("space", "nodes", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    nodes: _containers.RepeatedCompositeFieldContainer[TrieNode]
    number: int
    def __init__(self, space: _Optional[bytes] = ..., nodes: _Optional[_Iterable[_Union[TrieNode, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class TrieNode(_message.Message):
    __slots__ = ("prefix", "items", "hashes")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    items: bytes
    hashes: bytes
    def __init__(self, prefix: _Optional[bytes] = ..., items: _Optional[bytes] = ..., hashes: _Optional[bytes] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("space", "salt", "sections", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    salt: bytes
    sections: _containers.RepeatedCompositeFieldContainer[Section]
    number: int
    def __init__(self, space: _Optional[bytes] = ..., salt: _Optional[bytes] = ..., sections: _Optional[_Iterable[_Union[Section, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class CompareReply(_message.Message):
    __slots__ = ("space", "sections", "covered", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    COVERED_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    sections: _containers.RepeatedCompositeFieldContainer[Section]
    covered: int
    number: int
    def __init__(self, space: _Optional[bytes] = ..., sections: _Optional[_Iterable[_Union[Section, _Mapping]]] = ..., covered: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class Section(_message.Message):
    __slots__ = ("prefix", "ids", "clues")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    CLUES_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    ids: bytes
    clues: bytes
    def __init__(self, prefix: _Optional[bytes] = ..., ids: _Optional[bytes] = ..., clues: _Optional[bytes] = ...) -> None: ...

class RecordsRequest(_message.Message):
    __slots__ = ("space", "ids", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    ids: bytes
    number: int
    def __init__(self, space: _Optional[bytes] = ..., ids: _Optional[bytes] = ..., number: _Optional[int] = ...) -> None: ...

class RecordsReply(_message.Message):
    __slots__ = ("space", "records", "unsent", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    UNSENT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    records: _containers.RepeatedCompositeFieldContainer[SignedRecord]
    unsent: bytes
    number: int
    def __init__(self, space: _Optional[bytes] = ..., records: _Optional[_Iterable[_Union[SignedRecord, _Mapping]]] = ..., unsent: _Optional[bytes] = ..., number: _Optional[int] = ...) -> None: ...

class Rumour(_message.Message):
    __slots__ = ("space", "records")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    records: _containers.RepeatedCompositeFieldContainer[SignedRecord]
    def __init__(self, space: _Optional[bytes] = ..., records: _Optional[_Iterable[_Union[SignedRecord, _Mapping]]] = ...) -> None: ...

class AttestationsRequest(_message.Message):
    __slots__ = ("space", "held")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    held: _containers.RepeatedCompositeFieldContainer[HeldAttestation]
    def __init__(self, space: _Optional[bytes] = ..., held: _Optional[_Iterable[_Union[HeldAttestation, _Mapping]]] = ...) -> None: ...

class HeldAttestation(_message.Message):
    __slots__ = ("node", "counter", "mark")
    NODE_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    node: bytes
    counter: int
    mark: bytes
    def __init__(self, node: _Optional[bytes] = ..., counter: _Optional[int] = ..., mark: _Optional[bytes] = ...) -> None: ...

class Attestations(_message.Message):
    __slots__ = ("space", "items")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    items: _containers.RepeatedCompositeFieldContainer[SignedAttestation]
    def __init__(self, space: _Optional[bytes] = ..., items: _Optional[_Iterable[_Union[SignedAttestation, _Mapping]]] = ...) -> None: ...

class SignedAttestation(_message.Message):
    __slots__ = ("data", "signature")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    signature: bytes
    def __init__(self, data: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class TensorsRequest(_message.Message):
    __slots__ = ("space", "model", "first", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    model: bytes
    first: int
    number: int
    def __init__(self, space: _Optional[bytes] = ..., model: _Optional[bytes] = ..., first: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class TensorsReply(_message.Message):
    __slots__ = ("space", "model", "total", "tensors", "number")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    model: bytes
    total: int
    tensors: _containers.RepeatedCompositeFieldContainer[Tensor]
    number: int
    def __init__(self, space: _Optional[bytes] = ..., model: _Optional[bytes] = ..., total: _Optional[int] = ..., tensors: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "dtype", "shape", "blob")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    blob: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., blob: _Optional[bytes] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("space", "blob", "want_chunk_list", "runs", "encodings", "against")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    WANT_CHUNK_LIST_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    blob: bytes
    want_chunk_list: bool
    runs: _containers.RepeatedCompositeFieldContainer[ChunkRun]
    encodings: bytes
    against: bytes
    def __init__(self, space: _Optional[bytes] = ..., blob: _Optional[bytes] = ..., want_chunk_list: _Optional[bool] = ..., runs: _Optional[_Iterable[_Union[ChunkRun, _Mapping]]] = ..., encodings: _Optional[bytes] = ..., against: _Optional[bytes] = ...) -> None: ...

class ChunkRun(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Lent(_message.Message):
    __slots__ = ("data", "refused")
    DATA_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    refused: int
    def __init__(self, data: _Optional[bytes] = ..., refused: _Optional[int] = ...) -> None: ...

class JoinFrame(_message.Message):
    __slots__ = ("hello", "challenge", "answer", "welcome", "announce", "done")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    hello: JoinHello
    challenge: Challenge
    answer: Answer
    welcome: Welcome
    announce: Announce
    done: Done
    def __init__(self, hello: _Optional[_Union[JoinHello, _Mapping]] = ..., challenge: _Optional[_Union[Challenge, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., announce: _Optional[_Union[Announce, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ...) -> None: ...

class JoinHello(_message.Message):
    __slots__ = ("space",)
    SPACE_FIELD_NUMBER: _ClassVar[int]
    space: bytes
    def __init__(self, space: _Optional[bytes] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("author", "node", "author_signature", "node_signature", "mac")
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    NODE_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    author: bytes
    node: bytes
    author_signature: bytes
    node_signature: bytes
    mac: bytes
    def __init__(self, author: _Optional[bytes] = ..., node: _Optional[bytes] = ..., author_signature: _Optional[bytes] = ..., node_signature: _Optional[bytes] = ..., mac: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[SignedRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[SignedRecord, _Mapping]]] = ...) -> None: ...

class Announce(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[SignedRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[SignedRecord, _Mapping]]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("request_json",)
    REQUEST_JSON_FIELD_NUMBER: _ClassVar[int]
    request_json: bytes
    def __init__(self, request_json: _Optional[bytes] = ...) -> None: ...

class ControlReply(_message.Message):
    __slots__ = ("reply_json",)
    REPLY_JSON_FIELD_NUMBER: _ClassVar[int]
    reply_json: bytes
    def __init__(self, reply_json: _Optional[bytes] = ...) -> None: ...
