-- What every script begins with. A script is this file, heads.lua, and the file of its topic. It runs alone and whole, so each
-- operation is one atomic step; what it wrote is in the append-only file before its caller hears of it (appendfsync always).
--
-- KEYS[1] is the prefix of all keys. ARGV[1] names the operation, ARGV[2] has its arguments (MessagePack); where these name a
-- value of bytes, they give its place in ARGV. Times are ms by the server's clock. Empty text stands for nothing.
--
--   run:ID      hash   the head                     runs, open, ended  zset  ids: by number, all and those that have not ended;
--   log:ID      list   its events                                            by the end, those that have
--   at:ID       list   their places in the feed     due:KIND       zset  unowned ones by the time at which they are due
--   mail:ID     hash   numbers of its mail by key   mails:ID       zset  the mail, by number
--   owned:N, owners    sets: the runs of an incarnation; who has any     kinds  hash  open runs of each KIND
--   states      hash   typed states by run          feed           zset  SEQUENCE:ID by position
--   task:ID     hash   a human task                 tasks          zset  by the time at which they were opened
--   notice:ID   hash   a notice                     notices        zset  by the time at which they are due
--   tasks:ID, reserved:ID, tried:ID, children:ID    sets: what belongs to a run
--   trial:N     set    the runs that an incarnation drives on trial, or of which it died
--   tranche:T   set    SEQUENCE:ID                  tranches       set   those that there are
--   bucket:N, buckets  sets: the runs of a week; the weeks               moved:ID  list  events that repairs moved away
--   inc:N       hash   an incarnation               living         zset  by number     deaths  list     board  hash
--   sys:S       hash   a stream without an owner    sysev:S        list  its events    streams, changes  zset
--
-- A KIND is a version and its workflow: "3 triage".
local P, OP, A = KEYS[1], ARGV[1], cmsgpack.unpack(ARGV[2])
local call = redis.call
local clock = call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ENDED = {completed = true, failed = true, cancelled = true}
local PAGE = 100
local F = {}

local function text(number) return string.format('%.0f', number) end
local function num(value) return tonumber(value) end

local function hash(key)
    local flat, out = call('HGETALL', P .. key), {}
    if #flat == 0 then return nil end
    for i = 1, #flat, 2 do out[flat[i]] = flat[i + 1] end
    return out
end

local function flat(h)
    local out = {}
    for field, value in pairs(h) do
        out[#out + 1] = field
        out[#out + 1] = type(value) == 'number' and text(value) or value
    end
    return out
end

local function is_living(number) return call('ZSCORE', P .. 'living', number) and true or false end
