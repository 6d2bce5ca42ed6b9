-- The event log, the mailbox, what the process agrees upon, and the read models. Words: docs/glossary. Times are ms since 1970.

-- One row per run: where its stream stands, and who may move it. `number` counts runs in the order of their creation.
CREATE TABLE runs (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    sequence    INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    owner       INTEGER,
    wake_at     INTEGER,
    mail        INTEGER NOT NULL DEFAULT 0,
    folded      INTEGER NOT NULL DEFAULT 0,
    takeovers   INTEGER NOT NULL DEFAULT 0,
    bucket      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    version     INTEGER NOT NULL,
    base        INTEGER NOT NULL DEFAULT 1,
    generation  INTEGER NOT NULL DEFAULT 1,
    workflow    TEXT    NOT NULL,
    build       TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    parent      TEXT,
    parent_call TEXT,
    attributes  TEXT    NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX runs_due ON runs (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;
CREATE INDEX runs_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_open ON runs (workflow, version, number) WHERE ended_at IS NULL;
CREATE INDEX runs_bucket ON runs (bucket, ended_at);
CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;

-- The streams. `position` is the feed's order: there is one writer, so it is the order of commits. A body is JSON as it was
-- appended where `codec` is 0; else `packed` holds it.
CREATE TABLE streams (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    number   INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    codec    INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    body     TEXT,
    packed   BLOB,
    nonce    BLOB    NOT NULL,
    UNIQUE (number, sequence)
) STRICT;

-- The streams as people read them.
CREATE VIEW events AS
SELECT r.id AS run, s.sequence, s.at, s.epoch, s.type, s.version, s.body, s.codec, s.packed, s.position
FROM streams s JOIN runs r ON r.number = s.number;

-- What others want of a run, until the run is deleted.
CREATE TABLE mailbox (
    run    TEXT    NOT NULL,
    key    TEXT    NOT NULL,
    number INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    body   BLOB    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (run, key),
    UNIQUE (run, number)
) STRICT;

-- Events that could not be trusted, as they stood in `streams`: a repair moves them here, and deletes nothing.
CREATE TABLE quarantined_events (
    moved_at INTEGER NOT NULL,
    run      TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    position INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    codec    INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    body     TEXT,
    packed   BLOB,
    nonce    BLOB    NOT NULL
) STRICT;
CREATE INDEX quarantined_events_run ON quarantined_events (run, sequence);

-- Every incarnation that ever was. Who lives is known in memory.
CREATE TABLE coordinators (
    incarnation INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    address     TEXT    NOT NULL,
    started_at  INTEGER NOT NULL
) STRICT;

-- The runs that an incarnation drives on suspicion; once it is dead and they are judged, those of whom it died.
CREATE TABLE trials (
    run         TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    is_judged   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, incarnation)
) STRICT, WITHOUT ROWID;
CREATE INDEX trials_incarnation ON trials (incarnation);

-- What all processes that ever open the file agree upon: the hash seed, and where incarnations begin.
CREATE TABLE cluster (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- The streams that have no owner, each with what its events add up to. `changed` counts the appends of all of them.
CREATE TABLE system_streams (
    stream     TEXT    PRIMARY KEY,
    sequence   INTEGER NOT NULL,
    changed    INTEGER NOT NULL UNIQUE,
    updated_at INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT;
CREATE TABLE system_events (
    stream   TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;

-- What people are asked, as the runs' appends say it. Tenant and workflow are those of the run. What its log tells of a task
-- begins with event `requested`.
CREATE TABLE human_tasks (
    id        TEXT    PRIMARY KEY,
    run       TEXT    NOT NULL,
    call      TEXT    NOT NULL,
    status    TEXT    NOT NULL,
    question  TEXT    NOT NULL,
    detail    TEXT    NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    assignee  TEXT    NOT NULL DEFAULT '',
    requested INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX human_tasks_open ON human_tasks (opened_at, id) WHERE status = 'open';
CREATE INDEX human_tasks_oldest ON human_tasks (opened_at, id);
CREATE INDEX human_tasks_run ON human_tasks (run);

-- What a webhook is to be told of human tasks, until it was.
CREATE TABLE notices (
    id     TEXT    PRIMARY KEY,
    at     INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    tries  INTEGER NOT NULL DEFAULT 0,
    body   TEXT    NOT NULL
) STRICT;
CREATE INDEX notices_due ON notices (due_at);

-- Which events spend from which tranche of a shared budget, until it is settled.
CREATE TABLE reservations (
    tranche  TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (tranche, number, sequence)
) STRICT, WITHOUT ROWID;

-- The typed state of runs (run.state), as their last append said it. `value` is JSON, of that version of its schema.
CREATE TABLE states (
    run        TEXT    PRIMARY KEY,
    version    INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    value      TEXT    NOT NULL
) STRICT;
