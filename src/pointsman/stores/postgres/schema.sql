-- The whole schema, as a new database gets it: what all migrations add up to (tests compare the catalogs). For reading.

-- Which migrations have been applied.
CREATE TABLE migrations (
    number     integer     NOT NULL,
    phase      text        NOT NULL,
    name       text        NOT NULL,
    digest     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT migrations_pkey PRIMARY KEY (number, phase)
);

-- The event log, the mailbox, the coordinators, what the cluster agrees upon, and the read models. Words: docs/glossary.
--
-- Identifiers sort by code point (COLLATE "C"): every process then locks heads in the same order, whatever its locale,
-- and index comparisons are cheaper. No foreign keys: they would add locks on rows that every append touches.

-- One row per run: where its stream stands, and who may move it. Deleted only with the run itself. `number` counts runs in the
-- order of their creation: listings go by it, and the rows of the stream carry it in place of the id.
-- Every append updates `updated_at`, `sequence` and `folded`, every mail `mail`: no index may name them, not even in its
-- predicate, or updates stop being HOT. A batch often moves all runs of a page at once, so a page must hold two versions of each:
-- at fillfactor 70 a third of all updates was not HOT and cost 12 µs more of server CPU.
-- The log of an update holds all bytes from the first changed one to the last. So columns that seldom change stand first, then
-- those that an append changes, from `updated_at` to `status`, then texts that appends leave alone. The indexed ones come first
-- among these: an update compares them all, and finds a text only by walking over all columns before it.
CREATE TABLE runs (
    number      bigserial   NOT NULL,
    created_at  timestamptz NOT NULL,
    bucket      integer     NOT NULL,
    version     integer     NOT NULL,
    base        integer     NOT NULL DEFAULT 1,
    generation  integer     NOT NULL DEFAULT 1,
    mail        integer     NOT NULL DEFAULT 0,
    takeovers   integer     NOT NULL DEFAULT 0,
    epoch       bigint      NOT NULL,
    updated_at  timestamptz NOT NULL,
    sequence    integer     NOT NULL,
    folded      integer     NOT NULL DEFAULT 0,
    owner       bigint,
    wake_at     timestamptz,
    ended_at    timestamptz,
    status      text        COLLATE "C" NOT NULL,
    id          text        COLLATE "C" NOT NULL,
    workflow    text        COLLATE "C" NOT NULL,
    tenant      text        COLLATE "C" NOT NULL,
    attributes  jsonb       NOT NULL DEFAULT '{}',
    build       text        COLLATE "C" NOT NULL,
    digest      text        COLLATE "C" NOT NULL,
    parent      text        COLLATE "C",
    parent_call text        COLLATE "C",
    CONSTRAINT runs_pkey PRIMARY KEY (id),
    CONSTRAINT runs_number UNIQUE (number)
) WITH (fillfactor = 35);

-- What is due: the poll reads only this.
CREATE INDEX runs_due ON runs (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;
CREATE INDEX runs_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_open ON runs (workflow, version, number) WHERE ended_at IS NULL;
CREATE INDEX runs_open_tenant ON runs (tenant, number) WHERE ended_at IS NULL;
-- For retention: what ended, and what is left, in old buckets; and who has children.
CREATE INDEX runs_bucket ON runs (bucket, ended_at);
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
-- Most runs have none: they then cost this index nothing.
CREATE INDEX runs_attributes ON runs USING gin (attributes jsonb_path_ops) WHERE attributes <> '{}';

-- The streams. `bucket` is that of the run's start, kept in its head, so that old ones can be dropped as whole partitions.
-- A body is either `body`, JSON as it was appended, byte for byte, or `packed` with a `codec` that is not 0 (see payload.py).
-- Only the first event of an append carries its nonce. `xid` orders the feed: a sequence number is not commit order. It is a
-- bigint because BRIN knows no xid8. Every byte here is paid three times (row, log, standby): the run's number instead of its
-- id saves 100 bytes of log a step, and nothing is null, because one null adds eight bytes to a row. `checksum` is chained over
-- the run (see kernel/checksum.py), shifted by 2^31 because `integer` has a sign. The index of the key leaves no room in a
-- page when it begins the next one (fillfactor 100): the runs under way split that page once more anyway, and their log is shorter.
CREATE TABLE streams (
    number   bigint   NOT NULL,
    at       bigint   NOT NULL,
    xid      bigint   NOT NULL,
    bucket   integer  NOT NULL,
    sequence integer  NOT NULL,
    epoch    integer  NOT NULL,
    checksum integer  NOT NULL,
    version  smallint NOT NULL,
    codec    smallint NOT NULL DEFAULT 0,
    body     json     NOT NULL DEFAULT 'null',
    type     text     COLLATE "C" NOT NULL,
    nonce    bytea    NOT NULL DEFAULT '',
    packed   bytea    NOT NULL DEFAULT '',
    CONSTRAINT streams_pkey PRIMARY KEY (number, bucket, sequence) WITH (fillfactor = 100)
) PARTITION BY RANGE (bucket);
ALTER TABLE streams ALTER COLUMN packed SET STORAGE EXTERNAL;

-- BRIN: an insert adds nothing to it, where a btree would add 70 bytes of log an event.
CREATE INDEX streams_feed ON streams USING brin (xid) WITH (autosummarize = on, pages_per_range = 32);

-- The streams as people read them.
CREATE VIEW events AS
SELECT r.id AS run, s.sequence, s.at, s.epoch, s.type, s.version, s.body, s.codec, s.packed, s.nonce, s.xid, s.bucket,
       s.checksum + 2147483648 AS checksum
FROM streams s JOIN runs r ON r.number = s.number AND r.bucket = s.bucket;

-- Events that could not be trusted, as they stood in `streams`: a repair moves them here, and deletes nothing.
CREATE TABLE quarantined_events (
    moved_at timestamptz NOT NULL DEFAULT now(),
    number   bigint      NOT NULL,
    at       bigint      NOT NULL,
    xid      bigint      NOT NULL,
    bucket   integer     NOT NULL,
    sequence integer     NOT NULL,
    epoch    integer     NOT NULL,
    checksum integer     NOT NULL,
    version  smallint    NOT NULL,
    codec    smallint    NOT NULL,
    run      text        COLLATE "C" NOT NULL,
    type     text        COLLATE "C" NOT NULL,
    reason   text        NOT NULL,
    body     json        NOT NULL,
    nonce    bytea       NOT NULL,
    packed   bytea       NOT NULL
);
CREATE INDEX quarantined_events_run ON quarantined_events (run, sequence);

-- What others want of a run, until the run is deleted.
CREATE TABLE mailbox (
    at     timestamptz NOT NULL DEFAULT now(),
    number integer     NOT NULL,
    run    text        COLLATE "C" NOT NULL,
    key    text        COLLATE "C" NOT NULL,
    kind   text        COLLATE "C" NOT NULL,
    body   bytea       NOT NULL,
    CONSTRAINT mailbox_pkey PRIMARY KEY (run, key),
    CONSTRAINT mailbox_number UNIQUE (run, number)
);
ALTER TABLE mailbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- One row per incarnation, for ever: a number never comes back. All times are the database's. `trial`: the runs that it drives
-- on suspicion, for as long as its death is their fault; once it has ended, those of whom it died.
CREATE TABLE coordinators (
    incarnation bigserial   NOT NULL,
    started_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    ttl_ms      integer     NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    address     text        COLLATE "C" NOT NULL,
    trial       text[]      COLLATE "C",
    definitions jsonb       NOT NULL DEFAULT '[]',
    CONSTRAINT coordinators_pkey PRIMARY KEY (incarnation)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX coordinators_living ON coordinators (name) WHERE ended_at IS NULL;

-- What the whole cluster agrees upon (its hash seed), and the row that barrier writes touch.
CREATE TABLE cluster (
    key   text COLLATE "C" NOT NULL,
    value text NOT NULL,
    CONSTRAINT cluster_pkey PRIMARY KEY (key)
) WITH (fillfactor = 50);

-- The streams that have no owner (agents, budgets, modes), each with what its events add up to. Other coordinators ask several
-- times a second what has changed, far more often than anything does: so `xid` has an index, which here, unlike in `runs`, is
-- worth the HOT updates. `state` is JSON byte for byte.
CREATE TABLE system_streams (
    updated_at timestamptz NOT NULL,
    sequence   bigint      NOT NULL,
    xid        bigint      NOT NULL,
    stream     text        COLLATE "C" NOT NULL,
    state      json        NOT NULL,
    CONSTRAINT system_streams_pkey PRIMARY KEY (stream)
);
CREATE INDEX system_streams_xid ON system_streams (xid);

-- Their latest events; older ones are cut. `body`, `packed` and `codec` as in `streams`.
CREATE TABLE system_events (
    at       bigint   NOT NULL,
    sequence bigint   NOT NULL,
    version  smallint NOT NULL,
    codec    smallint NOT NULL DEFAULT 0,
    stream   text     COLLATE "C" NOT NULL,
    type     text     COLLATE "C" NOT NULL,
    body     json     NOT NULL DEFAULT 'null',
    packed   bytea    NOT NULL DEFAULT '',
    CONSTRAINT system_events_pkey PRIMARY KEY (stream, sequence)
);
ALTER TABLE system_events ALTER COLUMN packed SET STORAGE EXTERNAL;

-- What each coordinator says of itself, several times a second. Unlogged: it is said again before anybody misses it, and a
-- commit that writes no log waits neither for the disk nor for a standby. Half of a page is free for the next version of a row.
CREATE UNLOGGED TABLE board (
    incarnation bigint NOT NULL,
    body        bytea  NOT NULL,
    CONSTRAINT board_pkey PRIMARY KEY (incarnation)
) WITH (fillfactor = 50);

-- What people are asked, as the runs' appends say it. Tenant and workflow are those of the run. What its log tells of a task
-- begins with event `requested`.
CREATE TABLE human_tasks (
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    requested integer     NOT NULL DEFAULT 0,
    id        text        COLLATE "C" NOT NULL,
    run       text        COLLATE "C" NOT NULL,
    call      text        COLLATE "C" NOT NULL,
    status    text        COLLATE "C" NOT NULL,
    question  text        NOT NULL,
    detail    json        NOT NULL,
    assignee  text        COLLATE "C",
    CONSTRAINT human_tasks_pkey PRIMARY KEY (id)
);

-- Nearly all who look want the open ones, and these stay few.
CREATE INDEX human_tasks_open ON human_tasks (opened_at, id) WHERE status = 'open';
CREATE INDEX human_tasks_oldest ON human_tasks (opened_at, id);
CREATE INDEX human_tasks_run ON human_tasks (run);

-- What a webhook is to be told of human tasks, until it was. The table is nearly empty at all times.
CREATE TABLE notices (
    at     timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    tries  integer     NOT NULL DEFAULT 0,
    id     text        COLLATE "C" NOT NULL,
    body   json        NOT NULL,
    CONSTRAINT notices_pkey PRIMARY KEY (id)
);
CREATE INDEX notices_due ON notices (due_at);

-- Which events spend from which tranche of a shared budget, until it is settled. `number` is the run's.
CREATE TABLE reservations (
    number   bigint  NOT NULL,
    sequence integer NOT NULL,
    tranche  text    COLLATE "C" NOT NULL,
    CONSTRAINT reservations_pkey PRIMARY KEY (tranche, number, sequence)
);

-- The typed state of runs (run.state), as their last append said it. `value` is JSON byte for byte, of that version of its schema.
CREATE TABLE states (
    updated_at timestamptz NOT NULL,
    version    integer     NOT NULL,
    sequence   integer     NOT NULL,
    run        text        COLLATE "C" NOT NULL,
    value      json        NOT NULL,
    CONSTRAINT states_pkey PRIMARY KEY (run)
) WITH (fillfactor = 70);

-- The feed begins here: no event of this schema has a smaller xid.
INSERT INTO cluster (key, value) VALUES ('feed_floor', pg_current_xact_id()::text);
