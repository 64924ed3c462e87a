"""Every setting of the service, its default, its bounds and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.core.contract import SHIPPED_WEIGHTS

PREFIX = "TAMVT_"


class Settings(BaseSettings):
    """What the operator decides. A field's description is its documentation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    # What runs
    models: str = Field(
        default="",
        description="Names of the served models, separated by commas, the default first; empty: "
        "`TAMVT_MODEL` alone.",
    )
    model: str = Field(default="tamvt-mobile", description="Name of the only served model.")
    weights: Path = Field(
        default=SHIPPED_WEIGHTS,
        description="Folder with the graphs and weights of all served models.",
    )
    engine_threads: int = Field(
        default=0, ge=0, le=256, description="Threads of one inference; 0: one for each processor."
    )
    runtime: Literal["auto", "onnxruntime", "openvino"] = Field(
        default="auto",
        description="What runs the embedded engine's graphs; `auto`: OpenVINO in bf16 where it is "
        "installed, faster, and was measured to lose little.",
    )
    runtime_files: Path = Field(
        default=Path("~/.cache/tamvt"),
        description="Folder of graphs that OpenVINO compiled, at most 512 MB; one that cannot be "
        "written is done without.",
    )
    bank_bytes: int = Field(
        default=2**30,
        ge=1,
        description="Bytes of all banks of all models; the least recently used are dropped.",
    )
    engine: Literal["embedded", "triton"] = Field(
        default="embedded", description="What runs the model: this process, or a Triton."
    )
    triton_url: str = Field(
        default="127.0.0.1:8001", description="Host and port of Triton's gRPC, for that engine."
    )
    triton_shared_memory: bool = Field(
        default=True, description="Banks in shared memory where Triton is on this host."
    )
    triton_in_flight: int = Field(
        default=16, ge=1, le=1024, description="Requests that Triton is given at once."
    )
    triton_start_deadline_s: float = Field(
        default=60.0, gt=0, description="Seconds that a start waits for Triton and its model."
    )
    threads: int = Field(
        default=2, ge=1, le=256, description="Threads that decode frames and encode masks."
    )

    # What is kept
    redis_url: str = Field(
        default="",
        description="Redis that holds the sessions, one server or a cluster; empty: a private one, "
        "a child.",
    )
    state: Path = Field(
        default=Path("~/.local/state/tamvt"),
        description="Folder where the private Redis keeps its file.",
    )
    session_ttl_s: int = Field(
        default=3600,
        ge=1,
        le=30 * 86_400,
        description="Seconds from its last use until a session expires.",
    )
    private_redis_bytes: int = Field(
        default=0,
        ge=0,
        description="Most bytes of the private Redis; 0: half of this machine's memory.",
    )
    session_bytes: int = Field(
        default=256_000_000,
        ge=0,
        description="Stored bytes of one session, its snapshots included; 0: any.",
    )
    frame_mask_bytes: int = Field(
        default=1_000_000, ge=0, description="Stored bytes of all masks of one frame; 0: any."
    )
    kept_frames: int = Field(
        default=10_000, ge=1_000, description="Newest frames of a session whose masks are kept."
    )

    rollback_clips: int = Field(
        default=16,
        ge=0,
        le=200,
        description="Newest clips of a session whose ends are all kept to go back to.",
    )
    rollback_snapshots: int = Field(
        default=64,
        ge=1,
        le=1000,
        description="Older clip ends to go back to, evenly spread over the video.",
    )

    # What a request may hold
    max_frame_bytes: int = Field(default=8_000_000, ge=1, description="Bytes of one encoded frame.")
    max_frame_width: int = Field(default=4096, ge=1, description="Width of a frame in pixels.")
    max_frame_height: int = Field(default=4096, ge=1, description="Height of a frame in pixels.")
    max_append_frames: int = Field(default=64, ge=1, le=1024, description="Images in one append.")
    max_video_bytes: int = Field(default=64_000_000, ge=1, description="Bytes of one video file.")
    max_video_frames: int = Field(
        default=1000,
        ge=1,
        le=10_000,
        description="Frames that one append takes of a video file.",
    )
    max_objects: int = Field(default=32, ge=1, le=254, description="Objects of one session.")
    max_short_side: int = Field(
        default=512,
        ge=32,
        le=4096,
        description="Short side at which a model may see frames, for objects that are thin at its "
        "own: twice as much costs six times.",
    )

    # Streams
    stream_credits: int = Field(
        default=8, ge=4, le=256, description="Unanswered frames of a lossless stream."
    )
    max_streams: int = Field(
        default=256, ge=1, description="Streams open at once; one more is closed with 1013."
    )
    stream_stall_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that a client has to read a message of its stream.",
    )
    stream_ping_s: float = Field(
        default=20.0, gt=0, description="Seconds between pings, and for a pong to come back."
    )
    stream_idle_s: float = Field(
        default=600.0, gt=0, description="Seconds without a message until a stream is closed."
    )
    ticket_ttl_s: float = Field(default=30.0, gt=0, description="Seconds that a ticket is valid.")

    # Who may use it
    allowed_hosts: str = Field(
        default="",
        description="Names under which the service may be called, separated by commas; addresses "
        "always may. Empty: `localhost` where it listens on loopback, else any; `*`: any.",
    )
    allowed_origins: str = Field(
        default="",
        description="Origins of pages elsewhere that may call the service, separated by commas; "
        "`*`: all.",
    )
    tickets_required: bool = Field(
        default=False, description="Whether a stream is opened with a ticket only."
    )
    keys: str = Field(
        default="",
        description="Where the API keys are: a file, or `redis` for the Redis of the sessions; "
        "empty: none are taken.",
    )
    oidc_issuer: str = Field(
        default="",
        description="OpenID Connect issuer whose tokens are taken, as it names itself in `iss`; "
        "empty: none.",
    )
    oidc_audience: str = Field(
        default="", description="What a token must name in `aud`; needed with an issuer."
    )
    oidc_jwks_url: str = Field(
        default="", description="Where the issuer tells its keys; empty: found by discovery."
    )
    oidc_tenant_claim: str = Field(
        default="tenant", description="The claim of a token that names the tenant."
    )
    oidc_scope_claim: str = Field(
        default="scope",
        description="The claim of a token that lists `read`, `write`, `admin`, or these after "
        "`tamvt:`, with spaces.",
    )
    open_access: bool = Field(
        default=False,
        description="Whether a service that asks nobody who they are may listen on more than "
        "loopback.",
    )
    tenant_header: str = Field(
        default="",
        description="Header in which your proxy names the tenant; empty: no such header is read.",
    )
    trusted_proxies: str = Field(
        default="127.0.0.0/8,::1",
        description="Addresses and networks of the proxies that name the tenant, separated by "
        "commas; others may not call then.",
    )
    tenant_sessions: int = Field(
        default=10_000,
        ge=0,
        description="Sessions of one tenant that have not expired; 0: as many as they like.",
    )
    tenant_bytes: int = Field(
        default=4_000_000_000,
        ge=0,
        description="Stored bytes of all sessions of one tenant; 0: any.",
    )
    tenant_objects: int = Field(
        default=0,
        ge=0,
        description="Objects that all sessions of one tenant track, over all gateways; 0: any.",
    )
    tenant_frames_per_s: float = Field(
        default=0.0,
        ge=0,
        description="Frames that one tenant may have tracked in a second, over all gateways, and "
        "ten times as many at once; 0: any.",
    )
    tenant_engine_share: float = Field(
        default=0.0,
        ge=0,
        description="Seconds of the model that one tenant may use in a second, over all gateways; "
        "0: any.",
    )
    max_tenant_streams: int = Field(
        default=256, ge=1, description="Streams of one tenant open at once, over all gateways."
    )

    tls_certificate: str = Field(
        default="",
        description="File with the service's certificate and its chain (PEM); empty: no TLS.",
    )
    tls_key: str = Field(
        default="",
        description="File with the certificate's private key; empty: it is in the same file.",
    )
    tls_client_ca: str = Field(
        default="",
        description="File with the authorities whose certificates clients must show (mTLS); "
        "empty: none are asked for.",
    )

    # What may happen at once, and for how long
    max_connections: int = Field(
        default=1000, ge=1, description="Connections open at once; one more is answered 503."
    )
    max_peer_connections: int = Field(
        default=500,
        ge=1,
        description="Connections of one address open at once. Behind a proxy: as many as of all.",
    )
    max_requests: int = Field(
        default=32,
        ge=1,
        description="Requests worked on at once, half of them of one tenant or peer; one more is "
        "answered 503.",
    )
    max_queue_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds that a tenant's clips wait for the model until its new sessions are "
        "answered 503; 0: any.",
    )
    max_request_bytes: int = Field(
        default=512_000_000,
        ge=1,
        description="Bytes of all uploads and of what is made of them at once; more is answered "
        "503.",
    )
    upload_deadline_s: float = Field(
        default=60.0, gt=0, description="Seconds until an upload is complete."
    )
    upload_bytes_per_s: int = Field(
        default=64_000,
        ge=1,
        description="Least rate of an upload, from 2 s on; a slower one is answered 408.",
    )
    request_deadline_s: float = Field(
        default=300.0, gt=0, description="Seconds of work on one request; more is answered 503."
    )
    canary_interval_s: float = Field(
        default=60.0,
        ge=0,
        description="Seconds between runs of the canary clip, whose wrong masks fail readiness; "
        "0: none.",
    )
    clip_deadline_s: float = Field(
        default=60.0, gt=0, description="Seconds of the engine on one clip."
    )
    redis_deadline_s: float = Field(
        default=5.0, gt=0, description="Seconds of Redis on one command."
    )
    shutdown_delay_s: float = Field(
        default=0.0,
        ge=0,
        description="Seconds from failing readiness until nothing more is accepted, on shutdown.",
    )
    shutdown_grace_s: float = Field(
        default=20.0,
        gt=0,
        description="Seconds that requests and streams in flight have left on shutdown.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level of the log lines on stderr."
    )
    log_format: Literal["logfmt", "json"] = Field(
        default="logfmt", description="How the log is written: for people, or as `json`."
    )
    otlp_endpoint: str = Field(
        default="",
        description="OpenTelemetry collector that traces are sent to by OTLP over HTTP, as in "
        "`http://127.0.0.1:4318`; empty: none.",
    )
    trace_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of traces that are sent, of those that no caller has decided about.",
    )

    @field_validator("models")
    @classmethod
    def check_models(cls, names: str) -> str:
        """Return the names as they are; raise ValueError for one that is empty or named twice."""
        each = read_names(names)
        if names.strip() and (not all(each) or len(set(each)) < len(each)):
            raise ValueError("name each model once, with commas between them")
        return names

    @property
    def served_models(self) -> tuple[str, ...]:
        """Return the names of the served models, the default first."""
        return read_names(self.models) if self.models.strip() else (self.model,)

    @property
    def is_guarded(self) -> bool:
        """Return whether callers prove who they are, to the service or to the proxy before it."""
        return bool(self.keys or self.oidc_issuer or self.tenant_header or self.tls_client_ca)

    @model_validator(mode="after")
    def check_together(self) -> Settings:
        """Raise ValueError for settings that contradict each other."""
        if self.tenant_header and (self.keys or self.oidc_issuer):
            raise ValueError(
                "TAMVT_TENANT_HEADER: a proxy names the tenant, or keys and tokens do "
                "(TAMVT_KEYS, TAMVT_OIDC_ISSUER): not both"
            )
        if not self.tls_certificate and (self.tls_key or self.tls_client_ca):
            raise ValueError("TAMVT_TLS_CERTIFICATE: needed with the other settings of TLS")
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("TAMVT_OIDC_AUDIENCE: needed with TAMVT_OIDC_ISSUER")
        return self

    @field_validator("runtime_files", "state", "weights")
    @classmethod
    def expand_home(cls, path: Path) -> Path:
        """Return the path with ~ replaced by the home folder."""
        return path.expanduser()

    @field_validator("tls_certificate", "tls_key", "tls_client_ca")
    @classmethod
    def expand_home_of_files(cls, name: str) -> str:
        """Return the name with ~ replaced by the home folder; empty stays empty."""
        return str(Path(name).expanduser()) if name else ""


def read_names(names: str) -> tuple[str, ...]:
    """Return what stands between the commas, without spaces."""
    return tuple(name.strip() for name in names.split(","))
