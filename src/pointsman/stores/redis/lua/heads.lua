-- The head of a run, and what follows from it: the indexes, its mail, its place in the feed.
local WAS = {}  -- heads as they were read

local function load(run)
    local h = hash('run:' .. run)
    WAS[run] = {}
    for field, value in pairs(h or {}) do WAS[run][field] = value end
    return h
end

local function holder(h) return not ENDED[h.status] and h.owner or '' end

local function kind_of(h) return h.version .. ' ' .. h.workflow end

local function save_owner(run, was, owner)
    if was == owner then return end
    if was ~= '' then
        call('SREM', P .. 'owned:' .. was, run)
        if call('SCARD', P .. 'owned:' .. was) == 0 then call('SREM', P .. 'owners', was) end
    end
    if owner ~= '' then
        call('SADD', P .. 'owned:' .. owner, run)
        call('SADD', P .. 'owners', owner)
    end
end

local function save_status(run, h)
    local has_ended = ENDED[h.status]
    if has_ended and call('ZREM', P .. 'open', run) == 1 then
        call('HINCRBY', P .. 'kinds', kind_of(h), -1)
    elseif not has_ended and call('ZADD', P .. 'open', h.number, run) == 1 then
        call('HINCRBY', P .. 'kinds', kind_of(h), 1)
    end
    if has_ended then call('ZADD', P .. 'ended', h.ended_at, run) else call('ZREM', P .. 'ended', run) end
end

local function save_due(run, h)
    local key = P .. 'due:' .. kind_of(h)
    if h.owner == '' and h.wake_at ~= '' and not ENDED[h.status] and h.status ~= 'quarantined' then
        call('ZADD', key, h.wake_at, run)
    else
        call('ZREM', key, run)
    end
end

local function save(run, h)
    local was, changed = WAS[run], {}
    for field, value in pairs(h) do
        if type(value) == 'number' then value = text(value) end
        h[field] = value
        if was[field] ~= value then
            changed[#changed + 1] = field
            changed[#changed + 1] = value
        end
    end
    if #changed == 0 then return end
    call('HSET', P .. 'run:' .. run, unpack(changed))
    save_owner(run, was.status and holder(was) or '', holder(h))
    if was.status ~= h.status or was.ended_at ~= h.ended_at then save_status(run, h) end
    save_due(run, h)
end

local function accept(run, key, packed)
    local h = load(run)
    if not h then return 'unknown' end
    if call('HEXISTS', P .. 'mail:' .. run, key) == 1 then return 'duplicate' end
    if ENDED[h.status] then return 'ended' end
    h.mail = text(num(h.mail) + 1)
    call('HSET', P .. 'mail:' .. run, key, h.mail)
    call('ZADD', P .. 'mails:' .. run, h.mail, h.mail .. ' ' .. text(NOW) .. ' ' .. packed)
    if h.owner == '' and (h.wake_at == '' or num(h.wake_at) > NOW) then h.wake_at = NOW end
    save(run, h)
    return h.mail
end

local function push(run, h, sequence, event)
    local position = call('INCR', P .. 'position')
    call('RPUSH', P .. 'log:' .. run, event)
    call('RPUSH', P .. 'at:' .. run, position)
    call('ZADD', P .. 'feed', position, text(sequence) .. ':' .. run)
    h.bytes = num(h.bytes) + #event
end

local function leave_feed(run, kept)
    for _, position in ipairs(call('LRANGE', P .. 'at:' .. run, kept, -1)) do
        call('ZREMRANGEBYSCORE', P .. 'feed', position, position)
    end
end

-- The sequence and the run of an entry of a tranche or of the feed.
local function parted(entry)
    local sequence, run = entry:match('^(%d+):(.*)$')
    return num(sequence), run
end

local function forget_reservations(run, kept)
    for _, tranche in ipairs(call('SMEMBERS', P .. 'reserved:' .. run)) do
        for _, entry in ipairs(call('SMEMBERS', P .. 'tranche:' .. tranche)) do
            local sequence, of = parted(entry)
            if of == run and sequence > kept then call('SREM', P .. 'tranche:' .. tranche, entry) end
        end
    end
end

local function write_state(run, state)
    if state.version == 0 then
        call('HDEL', P .. 'states', run)
    else
        call('HSET', P .. 'states', run, text(state.version) .. ' ' .. text(state.sequence) .. ' ' .. ARGV[state.value])
    end
end

local function join_bucket(run, bucket)
    call('SADD', P .. 'bucket:' .. bucket, run)
    call('SADD', P .. 'buckets', bucket)
end
