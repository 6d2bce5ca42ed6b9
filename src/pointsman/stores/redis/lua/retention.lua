-- What is old leaves, a run as a whole.

-- Of some of a bucket's runs: how many there are, how many are open, the oldest of these, and the bytes of their events.
function F.count()
    local runs, opened, oldest, bytes = 0, 0, '', 0
    for _, run in ipairs(A.runs) do
        local h = call('HMGET', P .. 'run:' .. run, 'ended_at', 'created_at', 'bytes')
        if h[1] then
            runs = runs + 1
            bytes = bytes + num(h[3])
            if h[1] == '' then
                opened = opened + 1
                if oldest == '' or num(h[2]) < num(oldest) then oldest = h[2] end
            end
        end
    end
    return {runs, opened, oldest, text(bytes)}
end

local function may_go(run)
    if call('SCARD', P .. 'children:' .. run) > 0 then return false end
    local parent = call('HGET', P .. 'run:' .. run, 'parent')
    local ended_at = parent ~= '' and call('HGET', P .. 'run:' .. parent, 'ended_at')
    return not ended_at or (ended_at ~= '' and num(ended_at) < A.before)
end

-- A redrive that was decided while its child was there is refused.
local function fence_parents(gone)
    local fenced = {}
    for _, run in ipairs(gone) do
        local parent = call('HGET', P .. 'run:' .. run, 'parent')
        if parent ~= '' and not fenced[parent] and call('EXISTS', P .. 'run:' .. parent) == 1 then
            call('HINCRBY', P .. 'run:' .. parent, 'epoch', 1)
            fenced[parent] = true
        end
    end
end

local function erase(run)
    local h = hash('run:' .. run)
    leave_feed(run, 0)
    for _, id in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do
        call('DEL', P .. 'task:' .. id)
        call('ZREM', P .. 'tasks', id)
    end
    forget_reservations(run, 0)
    if h.parent ~= '' then call('SREM', P .. 'children:' .. h.parent, run) end
    for _, key in ipairs({'run', 'log', 'at', 'mail', 'mails', 'tasks', 'reserved', 'moved', 'tried'}) do
        call('DEL', P .. key .. ':' .. run)
    end
    call('HDEL', P .. 'states', run)
    call('SREM', P .. 'bucket:' .. h.bucket, run)
    call('ZREM', P .. 'runs', run)
    call('ZREM', P .. 'ended', run)
end

function F.delete()
    local gone, passed = {}, 0
    while #gone < A.limit do
        local page = call('ZRANGEBYSCORE', P .. 'ended', '-inf', '(' .. text(A.before), 'LIMIT', passed, PAGE)
        if #page == 0 then break end
        for _, run in ipairs(page) do
            if #gone < A.limit and may_go(run) then gone[#gone + 1] = run end
        end
        passed = passed + #page
    end
    fence_parents(gone)
    for _, run in ipairs(gone) do erase(run) end
    return #gone
end

function F.move()
    local moved, current = 0, text(math.floor(NOW / A.bucket_ms))
    local from = P .. 'bucket:' .. A.bucket
    if A.bucket ~= current then
        for _, run in ipairs(call('SRANDMEMBER', from, A.limit)) do
            call('SREM', from, run)
            call('HSET', P .. 'run:' .. run, 'bucket', current)
            join_bucket(run, current)
            moved = moved + 1
        end
    end
    return {moved, call('SCARD', from)}
end

function F.drop()
    if num(A.bucket) >= math.floor(NOW / A.bucket_ms) then return 'current' end
    if call('SCARD', P .. 'bucket:' .. A.bucket) > 0 then return 'in use' end
    call('SREM', P .. 'buckets', A.bucket)
    return 'dropped'
end
