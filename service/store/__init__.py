"""Redis: sessions, their bytes, the scripts that decide, and quotas.

The keys. What stands in braces is a key's hash tag: keys with the same tag share a cluster's node.

    tamvt:{<session id>}:session            hash: state (the sealed session), version, next_frame,
                                            kept_from, tenant, token (of the last commit), bytes
                                            (of all values of the next two hashes),
                                            reserved (with the tenant's bytes)
    tamvt:{<session id>}:entries            hash: `<name>` -> sealed entry, `<name>.snapshot` ->
                                            sealed snapshot, `<name>.fields` -> the fields that it
                                            needs, `<name>.masks` -> sealed masks before a
                                            correction; another -> a model's own state, sealed
    tamvt:{<session id>}:masks              hash: frame -> sealed masks
    tamvt:{<session id>}:stream             string: token of the stream that owns the session
    tamvt:{<session id>}:ticket:<SHA-256>   string: exists until the ticket is used
    tamvt:{tenant:<name>}:sessions          sorted set: session id -> next check in ms since 1970
    tamvt:{tenant:<name>}:bytes             hash: session id -> bytes reserved for it, total

    tamvt:{tenant:<name>}:objects           hash: session id -> its objects, total
    tamvt:{tenant:<name>}:streams           sorted set: session id -> until when its stream counts
    tamvt:{tenant:<name>}:stream-tokens     hash: session id -> token of the stream that counts
    tamvt:{tenant:<name>}:rate:<what>       hash: tokens left of what it may use a second, and when
    tamvt:{key:<key id>}:record             string: JSON of an API key, without its secret
    tamvt:{keys}:ids                        set: the ids of all API keys

A name is `<frame>` or, after a change by hand, `<frame>.<revision>`. The first three keys expire
together, those of API keys never, each other one by itself. `codec.py` seals and reads the bytes,
`lua/` holds the scripts, `quotas.py` the sets of the tenants.
"""
