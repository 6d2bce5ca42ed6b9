-- Ownership: a claim raises the epoch. `A.builds` are the builds that the claimer has, by KIND.

local function claim(run, h)
    h.epoch = num(h.epoch) + 1
    h.owner, h.wake_at, h.status, h.build, h.updated_at = A.owner, '', 'running', A.builds[kind_of(h)], NOW
    save(run, h)
    return {run, flat(h)}
end

-- What is due of one kind, at most `limit`; not what stopped under this very build.
local function due_of(kind, build, limit, out)
    local passed, found = 0, 0
    while found < limit do
        local page = call('ZRANGEBYSCORE', P .. 'due:' .. kind, '-inf', NOW, 'WITHSCORES', 'LIMIT', passed, PAGE)
        if #page == 0 then return end
        for i = 1, #page, 2 do
            local is_at = call('HMGET', P .. 'run:' .. page[i], 'status', 'build')
            if not (is_at[1] == 'stopped' and is_at[2] == build) then
                out[#out + 1] = {num(page[i + 1]), page[i]}
                found = found + 1
            end
        end
        passed = passed + #page / 2
    end
end

local function due_among(runs, out)
    local seen = {}
    for _, run in ipairs(runs) do
        local h = not seen[run] and hash('run:' .. run)
        seen[run] = true
        local build = h and A.builds[kind_of(h)]
        local wake_at = build and call('ZSCORE', P .. 'due:' .. kind_of(h), run)
        if wake_at and num(wake_at) <= NOW and not (h.status == 'stopped' and h.build == build) then
            out[#out + 1] = {num(wake_at), run}
        end
    end
end

function F.claim_due()
    local out, found = {}, {}
    if not is_living(A.owner) then return out end
    if A.runs then
        due_among(A.runs, found)
    else
        for kind, build in pairs(A.builds) do due_of(kind, build, A.limit, found) end
    end
    table.sort(found, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
    for i = 1, math.min(#found, A.limit) do out[i] = claim(found[i][2], load(found[i][2])) end
    return out
end

-- The runs of which this incarnation died, as far as that is known; nil: of none.
local function culprits(number)
    local found = nil
    for _, run in ipairs(call('SMEMBERS', P .. 'trial:' .. number)) do
        found = found or {}
        found[run] = true
    end
    return found
end

local function orphans()
    local out = {}
    for _, number in ipairs(call('SMEMBERS', P .. 'owners')) do
        if not is_living(number) then
            local guilty = culprits(number)
            for _, run in ipairs(call('SMEMBERS', P .. 'owned:' .. number)) do
                local h = call('HMGET', P .. 'run:' .. run, 'version', 'workflow', 'status', 'takeovers', 'number')
                if h[3] ~= 'quarantined' and A.builds[h[1] .. ' ' .. h[2]] then
                    local takeovers = num(h[4])
                    local is_suspect = takeovers > 0 and (guilty == nil or guilty[run] == true)
                    out[#out + 1] = {run = run, number = num(h[5]), takeovers = takeovers, is_suspect = is_suspect,
                                     is_blamed = guilty == nil}
                end
            end
        end
    end
    table.sort(out, function(a, b) return a.number < b.number end)
    return out
end

local function take_over(one, is_blamed)
    local h = load(one.run)
    if is_blamed then h.takeovers = one.takeovers + 1 end
    return claim(one.run, h)
end

function F.claim_orphans()
    local out, left, may_claim = {}, 0, is_living(A.owner)
    for _, one in ipairs(orphans()) do
        if not one.is_suspect then
            if may_claim and #out < A.limit then
                out[#out + 1] = take_over(one, one.is_blamed)
            else
                left = left + 1
            end
        end
    end
    return {out, left}
end

function F.claim_suspects()
    local out, suspects = {}, {}
    if not is_living(A.owner) then return out end
    for _, one in ipairs(orphans()) do
        if one.is_suspect then suspects[#suspects + 1] = one end
    end
    if #suspects == 0 then return out end
    table.sort(suspects, function(a, b) return a.takeovers < b.takeovers or (a.takeovers == b.takeovers and a.run < b.run) end)
    local fewest, trial = suspects[1].takeovers, P .. 'trial:' .. A.owner
    call('DEL', trial)
    for i = 1, math.min(#suspects, A.together[math.min(fewest, #A.together)]) do
        local one = suspects[i]
        if one.takeovers > fewest then break end
        call('SADD', trial, one.run)
        call('SADD', P .. 'tried:' .. one.run, A.owner)
        out[i] = take_over(one, true)
    end
    return out
end

function F.end_trial()
    if is_living(A.owner) then call('DEL', P .. 'trial:' .. A.owner) end
    return 1
end

local function tried(run)
    local out = {}
    for _, number in ipairs(call('SMEMBERS', P .. 'tried:' .. run)) do
        local row = hash('inc:' .. number)
        if row and row.ended_at ~= '' and call('SISMEMBER', P .. 'trial:' .. number, run) == 1 then
            out[#out + 1] = {number, row.name}
        end
    end
    table.sort(out, function(a, b) return num(a[1]) < num(b[1]) end)
    return out
end

function F.died_on_trial() return tried(A.run) end

function F.release()
    local h = load(A.run)
    if not h or h.status ~= 'quarantined' then return 0 end
    h.status, h.owner, h.takeovers, h.wake_at = 'running', '', 0, NOW
    save(A.run, h)
    for _, victim in ipairs(tried(A.run)) do call('SREM', P .. 'trial:' .. victim[1], A.run) end
    return 1
end

function F.owned()
    local out = {}
    for _, run in ipairs(call('SMEMBERS', P .. 'owned:' .. A.owner)) do
        out[#out + 1] = {run, call('HGET', P .. 'run:' .. run, 'epoch')}
    end
    return out
end

function F.hand_over()
    local count = 0
    for run, epoch in pairs(A.runs) do
        local h = call('SISMEMBER', P .. 'owned:' .. A.owner, run) == 1 and load(run)
        if h and num(h.epoch) == epoch then
            h.owner, h.wake_at = '', NOW
            save(run, h)
            count = count + 1
        end
    end
    return count
end

function F.needed()
    local out, counted = {}, call('HGETALL', P .. 'kinds')
    for i = 1, #counted, 2 do
        if num(counted[i + 1]) > 0 then out[#out + 1] = counted[i] end
    end
    return out
end
