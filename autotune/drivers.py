"""Python's drivers for database servers: found before a database is opened, or the package that lacks is named."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from autotune.errors import UserError, first_line

# Packages whose name is not their module's.
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "cx_Oracle": "cx-Oracle",
}


def check_driver(key: str, url: str) -> None:
    """Find out whether the driver that a database's address asks for can be imported.

    An address that SQLAlchemy cannot read, or a database that it does not know, is left to whoever opens it.

    Args:
        key: The config key of the address.
        url: As SQLAlchemy takes it.

    Raises:
        UserError: It cannot; names the package to install.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        dialect = make_url(url).get_dialect()
    except ArgumentError:  # a NoSuchModuleError is one too
        return
    try:
        dialect.import_dbapi()
    except ImportError as error:
        module = (error.name or dialect.driver).partition(".")[0]
        package = _PACKAGES.get(module, module)
        problem = f"a {dialect.name} database needs the Python package {package}, which is not installed"
        if _is_installed(package):
            problem = f"the Python package {package} cannot be imported ({first_line(error)})"
        raise UserError(key, problem, f"pip install '{package}'") from error


def _is_installed(package: str) -> bool:
    try:
        version(package.partition("[")[0])
    except PackageNotFoundError:
        return False
    return True
