-- The event log as it is read: by run, by head, and as one feed.

local SOME = 20
local LENGTHS = {[0xc4] = '>I1', [0xc5] = '>I2', [0xc6] = '>I4'}

local function reply(run) return {run, call('HGETALL', P .. 'run:' .. run)} end

function F.read()
    local out = {}
    for i, run in ipairs(A.runs) do
        out[i] = call('LRANGE', P .. 'log:' .. run, A.after[i], A.after[i] + A.limit - 1)
    end
    return out
end

-- The bytes of an event's body as it is stored; of one that can't be read, all that it has. Seven fields stand before the body,
-- whose own length is read by hand: MessagePack here knows no bytes.
local function size(raw)
    local is_whole, place = pcall(cmsgpack.unpack_limit, raw, 7, 1)
    local length = is_whole and LENGTHS[raw:byte(place + 1)]
    return length and #raw > place + 5 and struct.unpack(length, raw, place + 2) or #raw
end

-- Up to A.bytes_max bytes of bodies, of all runs together. An event has more bytes than its body: only when all of them
-- together could reach the limit, bodies are looked at. A few at a time, because each may be large.
function F.read_within()
    local out, upper, exact, read = {}, 0, nil, {}
    for i, run in ipairs(A.runs) do
        local page, first, last = {}, A.after[i], A.after[i] + A.limit - 1
        out[i] = page
        while first <= last and (exact or 0) < A.bytes_max do
            local some = call('LRANGE', P .. 'log:' .. run, first, math.min(first + SOME - 1, last))
            for _, raw in ipairs(some) do
                upper = upper + #raw
                if exact == nil and upper >= A.bytes_max then
                    exact = 0
                    for _, earlier in ipairs(read) do exact = exact + size(earlier) end
                end
                if exact ~= nil then exact = exact + size(raw) else read[#read + 1] = raw end
                page[#page + 1] = raw
                if exact ~= nil and exact >= A.bytes_max then break end
            end
            if #some < SOME then break end
            first = first + SOME
        end
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
