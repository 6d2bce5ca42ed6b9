-- What the doctor looks at, some runs at a time, and repairs.

-- How much mail there is behind what was folded, and the highest number of it.
local function unread(run, folded)
    local newest = call('ZREVRANGE', P .. 'mails:' .. run, 0, 0, 'WITHSCORES')[2] or '0'
    return call('ZCOUNT', P .. 'mails:' .. run, '(' .. folded, '+inf'), math.max(num(newest), num(folded))
end

function F.mail_counts()
    local out = {}
    for _, run in ipairs(A.runs) do
        local h = call('HMGET', P .. 'run:' .. run, 'mail', 'folded')
        if h[1] then
            local counted, folded = num(h[1]), num(h[2])
            local found, last = unread(run, h[2])
            if counted - folded ~= found or counted ~= last then out[#out + 1] = {run, counted, folded, found, last} end
        end
    end
    return out
end

function F.orphans()
    local out = {}
    for _, run in ipairs(A.runs) do
        local h = hash('run:' .. run)
        if h and h.owner ~= '' and not ENDED[h.status] and not is_living(h.owner) then
            local ended_at = call('HGET', P .. 'inc:' .. h.owner, 'ended_at')
            out[#out + 1] = {run, h.owner, ended_at and text(NOW - num(ended_at)) or ''}
        end
    end
    return out
end

function F.strays()
    local out = {}
    for _, tranche in ipairs(call('SMEMBERS', P .. 'tranches')) do
        local rows = {}
        for _, entry in ipairs(call('SMEMBERS', P .. 'tranche:' .. tranche)) do
            local _, run = parted(entry)
            if call('EXISTS', P .. 'run:' .. run) == 0 then rows[run] = (rows[run] or 0) + 1 end
        end
        for run, count in pairs(rows) do
            if #out < A.limit then out[#out + 1] = {'tranche ' .. tranche .. ', run ' .. run, count} end
        end
    end
    return out
end

function F.cut()
    local h = load(A.run)
    if not h or ENDED[h.status] or num(h.epoch) ~= A.epoch or num(h.sequence) ~= A.sequence then return 0 end
    leave_feed(A.run, A.kept)
    for _, event in ipairs(call('LRANGE', P .. 'log:' .. A.run, A.kept, -1)) do
        call('RPUSH', P .. 'moved:' .. A.run, text(NOW) .. ' ' .. ARGV[A.reason] .. '\n' .. event)
        h.bytes = num(h.bytes) - #event
    end
    if A.kept == 0 then
        call('DEL', P .. 'log:' .. A.run, P .. 'at:' .. A.run)
    else
        call('LTRIM', P .. 'log:' .. A.run, 0, A.kept - 1)
        call('LTRIM', P .. 'at:' .. A.run, 0, A.kept - 1)
    end
    forget_reservations(A.run, A.kept)
    write_state(A.run, A.state)
    push(A.run, h, A.kept + 1, ARGV[A.event])
    h.epoch, h.sequence, h.folded, h.status, h.owner, h.wake_at = A.epoch + 1, A.kept + 1, A.folded, 'running', '', NOW
    h.takeovers, h.updated_at, h.base, h.generation = 0, NOW, A.base, A.generation
    save(A.run, h)
    return 1
end

function F.recount_mail()
    local h = load(A.run)
    if not h or ENDED[h.status] or num(h.epoch) ~= A.epoch then return 0 end
    h.epoch, h.owner, h.wake_at, h.updated_at = A.epoch + 1, '', NOW, NOW
    local _, last = unread(A.run, h.folded)
    h.mail = last
    save(A.run, h)
    return 1
end
