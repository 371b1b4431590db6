"""Every decoder of outside bytes that is fuzzed, as a table.

Owns the table alone. Of each: its name, what it decodes, the read, which errors are
refusals (whose fault: `PEER`, `USER`, `HOME`, or `NEVER` an error), seeds, and where they
differ from the usual the shape that a mutator takes an input for and the longest input.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.fuzz import reading_files as files
from tests.fuzz import reading_homes as homes
from tests.fuzz import reading_peers as peers
from tests.fuzz import reading_sets as sets
from tests.fuzz import reading_weights as weights
from tests.fuzz import seeds, seeds_files, seeds_homes, seeds_weights
from tests.fuzz.target import HOME, NEVER, PEER, USER, Target

# fmt: off
_ALL: Final = (
    # What peers and authors send.
    Target("value", "a canonical value (codec)", peers.read_value, PEER, seeds.values, "value"),
    Target("decimal", "a decimal in a record", peers.read_decimal, PEER, seeds.decimals, "text", 64),
    Target("record", "a signed record of any kind, its body included", peers.read_record, PEER, seeds.records, "value"),
    Target("fault", "the body of a fault, and its truth", peers.read_fault, PEER, seeds.faults, "value", 8192),
    Target("fork", "the body of a fork, and its truth", peers.read_fork, PEER, seeds.forks, "value", 8192),
    Target("proof", "a proof of bytes under a digest", peers.read_proof, PEER, seeds.proofs, "value", 8192),
    Target("membership", "a proof that an id is in a set, or is not", peers.read_membership, PEER, seeds.memberships, "value", 8192),
    Target("manifest", "a manifest", peers.read_manifest, PEER, seeds.manifests, "value"),
    Target("recipe", "the recipe of a record, and what it means for tensors", peers.read_recipe, PEER, seeds.recipes, "value"),
    Target("frame", "a frame of the sync stream", peers.read_frame, PEER, seeds.frames),
    Target("comparison", "a question or an answer of a comparison, beside real tries", peers.read_comparison, PEER, seeds.comparisons),
    Target("session", "several frames, as one session with a peer", sets.read_session, PEER, seeds.sessions, length=8192),
    Target("node", "several frames of a member, as a node takes them", sets.read_node, NEVER, seeds.sessions, length=8192),
    Target("history", "many records in one set, by numbers for keys and ids", sets.read_history, PEER, seeds.histories, "value"),
    Target("attestation", "an attestation", peers.read_attestation, PEER, seeds.attestations, "value"),
    Target("listing", "a page of the tensors of a model", peers.read_listing, PEER, seeds.listings),
    Target("join-frame", "a frame of the join stream", peers.read_join_frame, PEER, seeds.join_frames),
    Target("fetch-request", "a request for bytes of a blob", peers.read_fetch_request, PEER, seeds.fetch_requests),
    Target("reply", "a reply with bytes of a blob, encoded chunks included", peers.read_reply, (*PEER, *peers.NOT_THERE), seeds.replies),
    Target("chunk", "an encoded chunk", peers.read_chunk, PEER, seeds.chunks),
    Target("certificate", "a certificate of a peer", peers.read_certificate, PEER, seeds.certificates),
    # What users give.
    Target("ticket", "a ticket, its checksum made right", files.read_ticket, files.TICKETS, seeds_files.tickets, "value"),
    Target("size", "a size or a weight on the command line", files.read_size, USER, seeds_files.sizes, "text", 64),
    Target("passphrase", "the file of a passphrase", files.read_passphrase, USER, seeds_files.passphrases),
    Target("archive-header", "the header of a space as one file", files.read_archive_header, USER, seeds_files.archive_headers, "json"),
    Target("archive-entry", "the head of an entry of such a file", files.read_archive_entry, USER, seeds_files.archive_entries, length=512),
    Target("archive-records", "records in such a file", files.read_archive_records, USER, seeds_files.archive_records, "value"),
    Target("archive", "such a file as a whole", files.read_archive, USER, seeds_files.archives, length=16384),
    Target("safetensors", "the header of a safetensors file", weights.read_safetensors, USER, seeds_weights.safetensors, "header"),
    Target("index", "the index of a model in shards", weights.read_index, USER, seeds_weights.indices, "json"),
    Target("zip", "the records of a PyTorch file", weights.read_zip, USER, seeds_weights.zips, slow=True),
    Target("zip-entries", "such records, where the directory may lie", weights.read_zip_entries, USER, seeds_weights.zip_entries, "value", slow=True),
    Target("pickle", "the pickle of a PyTorch file", weights.read_pickle, USER, seeds_weights.pickles, slow=True),
    Target("model-config", "a config.json, also of a stack", weights.read_model_config, USER, seeds_weights.model_configs, "json"),
    Target("adapter-config", "an adapter_config.json, and the adapter fitted to a base", weights.read_adapter_config, USER, seeds_weights.adapter_configs, "json"),
    Target("adapter-names", "the tensors of an adapter, by name and shape", weights.read_adapter_names, USER, seeds_weights.adapter_names, "json"),
    Target("token-ids", "a config.json whose tokens get other numbers", weights.read_token_ids, USER, seeds_weights.token_ids, "json"),
    Target("chat-template", "a tokenizer_config.json", weights.read_chat_template, USER, seeds_weights.chat_templates, "json"),
    Target("tokenizer", "a tokenizer.json, and its union with another", weights.read_tokenizer, USER, seeds_weights.tokenizers, "json"),
    Target("vocabulary", "a vocab.json with added_tokens.json", weights.read_vocab, USER, seeds_weights.vocabs, "text"),
    Target("yaml", "YAML", files.read_yaml, USER, seeds_files.yamls, "text"),
    Target("toml", "TOML", files.read_toml, USER, seeds_files.tomls, "text"),
    Target("recipe-yaml", "a recipe file in YAML", files.read_recipe_yaml, USER, seeds_files.recipe_yamls, "text"),
    Target("recipe-toml", "a recipe file in TOML", files.read_recipe_toml, USER, seeds_files.recipe_tomls, "text"),
    Target("mergekit", "a configuration of mergekit", files.read_mergekit, USER, seeds_files.mergekits, "text"),
    Target("resolution", "a resolution.json, its digests made right", files.read_resolution, HOME, seeds_files.resolutions, "json", 8192),
    Target("licence", "the licence in a model card", files.read_licence, NEVER, seeds_files.licences, "text"),
    # What a home holds.
    Target("sealed-key", "an encrypted key, its checksum made right", homes.read_sealed_key, HOME, seeds_homes.sealed_keys, "text"),
    Target("key-file", "the key files of a home", homes.read_key_files, HOME, seeds_homes.key_files, "text"),
    Target("agent", "the answers of an agent that holds keys", homes.read_agent, HOME, seeds_homes.agents),
    Target("sums", "kept sums, their digest made right", homes.read_sums, HOME, seeds_homes.sums, "planes"),
    Target("sums-file", "the header of kept sums as it lies", homes.read_sums_file, HOME, seeds_homes.sums_files),
    Target("packed", "a packed blob, its index made right", homes.read_packed, homes.PACKED, seeds_homes.packed),
    Target("journal", "the journal of an output under way", homes.read_journal, NEVER, seeds_homes.journals, "text"),
    Target("anchor", "the anchor of a home, and what its store remembers", homes.read_anchor, HOME, seeds_homes.anchors, slow=True),
    Target("memo-row", "a row of the memo, its seal made right", homes.read_row, HOME, seeds_homes.rows, "value"),
    Target("scrub-place", "where the last check of blobs ended", homes.read_scrub_place, NEVER, seeds_homes.scrub_places, "value", slow=True),
    Target("exponents", "what a home kept of a base", homes.read_exponents, NEVER, seeds_homes.exponents, "json"),
    Target("attested", "what a home attests, its seal made right", homes.read_attested, NEVER, seeds_homes.attested, "value"),
    Target("lock", "who holds the lock of a home", homes.read_lock, NEVER, seeds_homes.locks, length=64),
    Target("request", "a request on the control socket", homes.read_request, USER, seeds_homes.requests, "json"),
)
# fmt: on
TARGETS: Final[Mapping[str, Target]] = MappingProxyType({t.name: t for t in _ALL})
