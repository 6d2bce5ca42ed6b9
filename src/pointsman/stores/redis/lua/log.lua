-- The event log as it is read: by run, by head, and as one feed.

local function reply(run) return {run, call('HGETALL', P .. 'run:' .. run)} end

function F.read()
    local out = {}
    for i, run in ipairs(A.runs) do
        out[i] = call('LRANGE', P .. 'log:' .. run, A.after[i], A.after[i] + A.limit - 1)
    end
    return out
end

function F.heads()
    local out = {}
    for _, run in ipairs(A.runs) do
        if call('EXISTS', P .. 'run:' .. run) == 1 then out[#out + 1] = reply(run) end
    end
    return out
end

-- The newest first.
function F.list()
    local out = {}
    for _, run in ipairs(call('ZREVRANGEBYSCORE', P .. A.index, '(' .. A.before, '-inf', 'LIMIT', 0, A.limit)) do
        out[#out + 1] = reply(run)
    end
    return out
end

function F.feed()
    local last, out = call('GET', P .. 'position') or '0', {}
    local found = call('ZRANGEBYSCORE', P .. 'feed', '(' .. A.after, '+inf', 'WITHSCORES', 'LIMIT', 0, A.limit)
    for i = 1, #found, 2 do
        local sequence, run = parted(found[i])
        out[#out + 1] = {run, found[i + 1], call('LINDEX', P .. 'log:' .. run, sequence - 1)}
    end
    return {last, out}
end
