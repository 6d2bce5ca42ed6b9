"""The ports on Redis, for teams that have it: `pointsman[redis]`. Several coordinator processes share one server."""

from pointsman.stores.redis.server import StoreNotDurable, StoreUnsupported
from pointsman.stores.redis.settings import InvalidRedisUrl, RedisSettings
from pointsman.stores.redis.store import RedisStore

__all__ = ["InvalidRedisUrl", "RedisSettings", "RedisStore", "StoreNotDurable", "StoreUnsupported"]
