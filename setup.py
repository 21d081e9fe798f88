"""The package's metadata; the versions that are installed are pinned in requirements/requirements.lock."""

from setuptools import find_namespace_packages, setup

setup(
    name="k8s-mininet-testbed",
    version="0.1.0",
    description="A Mininet-based emulation testbed for the Kubernetes network model",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_namespace_packages(include=["testbed*", "controllers*", "topologies*"]),
    include_package_data=True,
    package_data={
        "testbed": [f"**/*.{ending}" for ending in ("css", "conf", "html", "j2", "js", "json", "lua", "sh", "yaml")]
        + ["**/py.typed"]
    },
    install_requires=[
        "click>=8.1",
        "cryptography>=42",
        "eventlet>=0.41",
        "jinja2>=3.1",
        "jsonpatch>=1.33",
        "jsonschema>=4.18",
        "kubernetes-validate>=1.30",
        "matplotlib>=3.8",
        "mininet>=2.3.0.dev6",
        "numpy>=1.26",
        "os-ken>=4.2",
        "pandas>=2.0",
        "pydantic>=2.11",
        "pyyaml>=6.0",
        "rich>=13",
        "referencing>=0.30",
        "ryu==4.34; python_version < '3.12'",
        "scipy>=1.11",
        "wsproto>=1.2",
    ],
    entry_points={"console_scripts": ["testbed=testbed.cli:main"]},
)
