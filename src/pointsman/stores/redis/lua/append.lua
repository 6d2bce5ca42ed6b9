-- The append: what moves a head writes its events, its mail to others, and what people and budgets see of it.

local function refuse_move(h, item)
    if not h then return 'missing' end
    if num(h.epoch) ~= item.epoch then return 'fenced' end
    local may_move
    if item.redrives then may_move = h.status == 'failed' else may_move = not ENDED[h.status] end
    if num(h.sequence) ~= item.expected or not may_move then return 'conflict' end
    if call('LLEN', P .. 'log:' .. item.run) ~= item.expected then return 'conflict' end
    if item.closes and num(h.mail) ~= item.folded then return 'mail_arrived' end
    return nil
end

local function create(item)
    local h = item.create
    h.number = call('INCR', P .. 'number')
    h.epoch, h.sequence, h.mail, h.folded, h.takeovers, h.bytes = item.epoch, 0, 0, 0, 0, 0
    h.base, h.generation, h.status, h.owner, h.wake_at, h.ended_at = 1, 1, 'running', '', '', ''
    if h.created_at == '' then h.created_at = NOW end
    h.bucket, h.version = text(h.bucket), text(h.version)
    call('ZADD', P .. 'runs', h.number, item.run)
    join_bucket(item.run, h.bucket)
    if h.parent ~= '' then call('SADD', P .. 'children:' .. h.parent, item.run) end
    return h
end

local function write_task(run, h, task)
    local key = P .. 'task:' .. task.id
    local closed_at = task.status == 'open' and '' or text(task.at)
    local before = call('HGET', key, 'status')
    if not before then
        call('HSET', key, 'run', run, 'call', task.call, 'question', task.question, 'detail', task.detail, 'tenant', h.tenant,
             'workflow', h.workflow, 'opened_at', text(task.at), 'status', task.status, 'closed_at', closed_at,
             'assignee', task.assignee or '', 'requested', text(task.requested))
        call('ZADD', P .. 'tasks', text(task.at), task.id)
        call('SADD', P .. 'tasks:' .. run, task.id)
        return
    end
    if task.requested > 0 then call('HSET', key, 'requested', text(task.requested)) end
    if task.assignee then call('HSET', key, 'assignee', task.assignee) end
    if before ~= task.status then call('HSET', key, 'status', task.status, 'closed_at', closed_at) end
end

local function write_notice(notice)
    local key = P .. 'notice:' .. notice.id
    if call('EXISTS', key) == 1 then return end
    call('HSET', key, 'at', text(notice.at), 'body', ARGV[notice.body], 'tries', '0')
    call('ZADD', P .. 'notices', text(notice.at), notice.id)
end

local function write_reservation(run, spent)
    call('SADD', P .. 'tranche:' .. spent.tranche, text(spent.sequence) .. ':' .. run)
    call('SADD', P .. 'tranches', spent.tranche)
    call('SADD', P .. 'reserved:' .. run, spent.tranche)
end

local function move(h, item)
    h.epoch = num(h.epoch) + (item.redrives and 1 or 0)
    for i = 1, item.count do push(item.run, h, item.expected + i, ARGV[item.first + i - 1]) end
    h.sequence = item.expected + item.count
    h.status, h.owner, h.wake_at, h.folded = item.status, item.owner, item.wake_at, item.folded
    if item.is_progress then h.takeovers = 0 end
    h.updated_at = NOW
    if item.generations > 0 then h.base, h.generation = item.base, num(h.generation) + item.generations end
    h.ended_at = ENDED[item.status] and NOW or ''
    save(item.run, h)
    if item.letter then accept(item.letter.run, item.letter.key, ARGV[item.letter.packed]) end
    for _, task in ipairs(item.tasks) do write_task(item.run, h, task) end
    for _, notice in ipairs(item.notices) do write_notice(notice) end
    for _, spent in ipairs(item.reservations) do write_reservation(item.run, spent) end
    if item.state then write_state(item.run, item.state) end
end

function F.append()
    local by_run, settled = {}, {}
    for _, item in ipairs(A.batch) do by_run[item.run] = item end
    local function settle(item)
        settled[item.run] = {'missing', 0}
        local parent = item.create and item.create.parent ~= '' and item.create.parent or nil
        if parent and by_run[parent] and not settled[parent] then settle(by_run[parent]) end
        local h, refusal = load(item.run), nil
        if not item.create then
            refusal = refuse_move(h, item)
        elseif parent and not (settled[parent] and settled[parent][1] == 'moved') then
            refusal = 'missing'
        elseif h then
            refusal = 'exists'
        else
            h = create(item)
        end
        if not refusal then move(h, item) end
        settled[item.run] = {refusal or 'moved', h and num(h.mail) or 0}
    end
    local out = {}
    for i, item in ipairs(A.batch) do
        if not settled[item.run] then settle(item) end
        out[i] = settled[item.run]
    end
    return out
end
