-- What each living incarnation says to the others.

function F.publish()
    if is_living(A.number) then call('HSET', P .. 'board', A.number, ARGV[A.body]) end
    local out = {}
    for _, number in ipairs(call('ZRANGE', P .. 'living', 0, -1)) do
        local body = number ~= A.number and call('HGET', P .. 'board', number)
        if body then out[#out + 1] = {number, body} end
    end
    return out
end
