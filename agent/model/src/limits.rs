//! Every bound of the documents, in one place. Going over one is an error that names the bound.

use brattice_router::limits as router;

/// Longest document file, bytes. Readers stop there.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Most document files of one owner.
pub const MAX_FILES_PER_OWNER: usize = 4_096;
/// Most bytes of all files of one owner. Together with the next two it bounds the time that one owner's documents take:
/// the worst of texts takes less than half a second, while the other owners' documents wait.
pub const MAX_BYTES_PER_OWNER: usize = 4 * 1024 * 1024;
/// Most documents of one owner.
pub const MAX_DOCUMENTS_PER_OWNER: usize = 20_000;
/// Deepest nesting of mappings and lists in a document.
pub const MAX_DEPTH: usize = 32;
/// Most YAML nodes (values, lists, mappings, beginnings of documents) of one owner; bounds memory where a byte can be a node.
pub const MAX_NODES_PER_OWNER: usize = 400_000;
/// Most regular expressions in the documents of one owner; compiling them is what takes longest.
pub const MAX_REGEXES_PER_OWNER: usize = router::MAX_REGEXES;
/// Most errors reported of one owner; the rest is a number.
pub const MAX_DIAGNOSTICS: usize = 100;

/// Most services of an account: Lattice's default quota, and half of the VIPs there are.
pub const MAX_SERVICES_PER_ACCOUNT: usize = 2_000;
/// Most service networks of an account.
pub const MAX_NETWORKS_PER_ACCOUNT: usize = 1_000;
/// Most target groups of an account.
pub const MAX_TARGET_GROUPS_PER_ACCOUNT: usize = 4_000;
/// Most listeners of all services of an account; the kernel has room for 65,536.
pub const MAX_LISTENERS_PER_ACCOUNT: usize = 4_000;
/// Most rules of all listeners of an account.
pub const MAX_RULES_PER_ACCOUNT: usize = 10_000;
/// Most targets of all target groups of an account; the kernel has room for 262,144.
pub const MAX_TARGETS_PER_ACCOUNT: usize = 20_000;
/// Most decisions that the search for calls that policies are about takes per owner, about a tenth of a second. Of what
/// was not looked at nothing is said.
pub const MAX_POLICY_CHECKS_PER_OWNER: u32 = 100_000;
/// Most statements of all policies of an account.
pub const MAX_STATEMENTS_PER_ACCOUNT: usize = 10_000;

/// Most listeners of a service.
pub const MAX_LISTENERS: usize = 20;
/// Most rules of a listener.
pub const MAX_RULES: usize = router::MAX_RULES;
/// Most target groups of one forward (Lattice's own bound).
pub const MAX_FORWARD_TARGET_GROUPS: usize = 10;
/// Most targets of a target group (Lattice's default quota).
pub const MAX_TARGETS: usize = 1_000;
/// Most custom domain names of a service.
pub const MAX_CUSTOM_DOMAINS: usize = 20;
/// Most service networks that one document names.
pub const MAX_NETWORKS_PER_MEMBER: usize = 100;
/// Most accounts in one `sharedWith`.
pub const MAX_SHARED_WITH: usize = 1_000;
/// Most CIDR blocks of a VPC.
pub const MAX_CIDR_BLOCKS: usize = 16;
/// Most attachment selectors of a VPC.
pub const MAX_ATTACHMENTS: usize = 100;
/// Most DNS upstreams of a VPC.
pub const MAX_DNS_UPSTREAMS: usize = 8;
/// Most addresses that a `Workload` document names.
pub const MAX_WORKLOAD_ADDRESSES: usize = 64;
/// Most selectors in the `trust` of a `Role`.
pub const MAX_TRUST: usize = 100;
/// Most workloads that one selector names.
pub const MAX_WORKLOADS_PER_TRUST: usize = 1_000;
/// Most domains, and most VPCs, that an `Account` grants.
pub const MAX_ACCOUNT_GRANTS: usize = 1_000;
/// Most labels, and most tags, of a document (Lattice's bound for tags).
pub const MAX_TAGS: usize = 200;
/// Largest weight in a forward.
pub const MAX_WEIGHT: u64 = 999;
/// Largest priority of a rule; the smallest is 1.
pub const MAX_PRIORITY: u64 = 2_000;
/// Longest path in a rule, bytes.
pub const MAX_PATH: usize = router::MAX_PATH;
/// Longest method in a rule, bytes.
pub const MAX_METHOD: usize = router::MAX_METHOD;
/// Most conditions on header fields (and on gRPC metadata) of a rule.
pub const MAX_HEADER_MATCHES: usize = router::MAX_FIELDS;
/// Most conditions on query parameters of a rule.
pub const MAX_QUERY_MATCHES: usize = router::MAX_FIELDS;
/// Longest name of a header field, bytes.
pub const MAX_HEADER_NAME: usize = router::MAX_NAME;
/// Longest name of a query parameter in a rule, bytes.
pub const MAX_QUERY_NAME: usize = router::MAX_NAME;
/// Longest value that a rule compares with, bytes.
pub const MAX_MATCH_VALUE: usize = router::MAX_VALUE;
/// Longest name of a gRPC service or method in a rule, bytes.
pub const MAX_GRPC_NAME: usize = 256;
/// Most VPCs that a rule names.
pub const MAX_SOURCE_VPCS: usize = 100;
/// Most header fields in each of `set`, `add` and `remove`.
pub const MAX_HEADER_EDITS: usize = 64;
/// Longest value of a header field that a rule writes, bytes.
pub const MAX_HEADER_VALUE: usize = 4 * 1024;
/// Longest substitution of a rewrite by regular expression, bytes.
pub const MAX_SUBSTITUTION: usize = router::MAX_PATH;
/// Longest body of a fixed response, bytes.
pub const MAX_FIXED_BODY: usize = 4 * 1024;
/// Longest name of a cookie, bytes.
pub const MAX_COOKIE_NAME: usize = 128;
/// Longest age of a cookie, seconds: 400 days, which is where clients cut it (RFC 6265bis, 5.6.2).
pub const MAX_COOKIE_AGE_SECONDS: u64 = 400 * 24 * 60 * 60;

/// A freed VIP rests this long before another service gets it, seconds: longer than any cached DNS answer or idle
/// connection of the service that had it.
pub const VIP_REST_SECONDS: u64 = 600;
/// TTL of DNS answers about services, seconds.
pub const DNS_TTL_SECONDS: u32 = 30;
/// How long the engine waits for a connection to a target, ms.
pub const CONNECT_TIMEOUT_MS: u32 = 5_000;
/// Longest time that a kept connection to a target may idle, seconds.
pub const MAX_POOL_IDLE_SECONDS: u64 = 600;
/// `idleTimeoutSeconds` where a service does not say: Lattice's default.
pub const IDLE_TIMEOUT_SECONDS: u32 = 60;
/// Type of a fixed response's body where it does not say.
pub const DEFAULT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";
/// Status of a redirect where it does not say: Gateway API's default.
pub const DEFAULT_REDIRECT_STATUS: u16 = 302;
/// Weight where a forward does not say: Lattice's default.
pub const DEFAULT_WEIGHT: u16 = 100;
/// Suffix of generated DNS names where the agent is told no other.
pub const DEFAULT_DNS_SUFFIX: &str = "svc.brattice.internal";
