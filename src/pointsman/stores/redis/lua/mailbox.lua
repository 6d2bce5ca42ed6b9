-- What others want of a run: one entry each, numbered, kept until the run goes.

function F.post() return accept(A.run, A.key, ARGV[A.packed]) end

function F.read() return call('ZRANGEBYSCORE', P .. 'mails:' .. A.run, '(' .. text(A.after), '+inf') end

function F.find()
    local number = call('HGET', P .. 'mail:' .. A.run, A.key)
    return number and call('ZRANGEBYSCORE', P .. 'mails:' .. A.run, number, number)[1] or false
end

function F.unread()
    local out = {}
    for _, run in ipairs(call('SMEMBERS', P .. 'owned:' .. A.owner)) do
        local counts = call('HMGET', P .. 'run:' .. run, 'mail', 'folded')
        if num(counts[1]) > num(counts[2]) then out[#out + 1] = {run, num(counts[1])} end
    end
    return out
end
