"""The HTTP interface of a coordinator."""

from pointsman.api.errors import ApiError, InsecureBind, InvalidSetting
from pointsman.api.server import ApiServer
from pointsman.api.settings import ApiSettings

__all__ = ["ApiError", "ApiServer", "ApiSettings", "InsecureBind", "InvalidSetting"]
