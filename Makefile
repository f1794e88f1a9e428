# SPDX-License-Identifier: MIT
# One target a job; README.md and .ci/run call these.
#
#   make run        environment, build, then the built-in example
#   make test       before each commit, in two minutes: the first case of each test, but for those of tests/slow.txt, and
#                   those of the C library
#   make test-all   all tests that need no other programs; CONTRIBUTING.md says what takes the time
#   make sanitize   the same with the C core under ASan and UBSan
#   make versions   the same wheel under every supported Python that is here
#   make interop    the tests with real programs
#   make multiplexers   tests/faq and tests/hostile under auto, epoll, poll and select
#   make soak       these two, the pid file, relays and upgrades with the large counts, ten minutes of storm
#                   (tests/hostile/storm) among them: two hours; SOCKD_MULTIPLEXER=poll for another than auto
#   make fuzz       framings, SOCKS clients and calls of the multiplexer of csrc under libFuzzer, and the parsers of SOCKS and PROXY: 10^7 runs each (RUNS=n)
#   make lint       ruff, mypy --strict, import layers, C warnings
#   make bench      peers side by side
#   make build      the wheel in build/wheel, and wheels of what it needs in build/dependencies
#   make install    PREFIX=/usr/local DESTDIR=: a private environment in PREFIX/lib/sockd, commands, manual pages, completions,
#                   units, examples, C library; packaging/install says what else can be set
#   make uninstall  removes all of these
#   make buffer     build/buffer: the wheel of sockd-buffer, which is sockd.buffer without the daemon
#   make docs       the site: build/site/index.html
#   make wheels     build/packages/wheels: of sockd and sockd-buffer, for manylinux and musllinux, and for aarch64; audited, and
#                   tried where they run
#   make packages   the wheels, and in build/packages the Debian packages, the RPM and the container image, each tried in a clean root
#   make tools      build/tools: what packages of a distribution are built from without a network: wheels of what building needs, and
#                   the sources of what is packaged with sockd
#   make sbom       what the wheel consists of and needs, as CycloneDX, beside the wheel: build/wheel/sockd.cdx.json
#   make generated  what manual pages, completions and docs/log-events.md have from the program, after its options, keys
#                   or log events have changed
#   make clean

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(shell $(p) -c 'import sys; print(int(sys.version_info >= (3, 11)))' 2>/dev/null | grep 1),$(p))))
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES = setup.py pyproject.toml README.md $(wildcard csrc/*.[ch] csrc/*.py) $(shell find sockd -name '*.py' -o -name '*.pyi' -o -name '*.[ch]' -o -name '*.html' -o -name py.typed)
PYTEST_ARGS ?=
# Two builds of one state are the same bytes: times in the wheel are that of the last change.
EPOCH = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),1700000000)
# Most of a test is waiting. Where crowds of clients come (the rest of tests/hostile), two files have the machine to
# themselves, and storms, and what compares times, are alone: their bounds are for that.
SIDE_BY_SIDE = -n 4 --dist loadfile
CROWDS = tests/hostile $(ALONE:%=--ignore %) -n 2 --dist loadfile
ALONE = tests/hostile/test_storm.py tests/hostile/test_signal_storm.py tests/hostile/test_growth.py
SUITE = --ignore tests/interop
# What fails is tried once more with the machine to itself: a bound of time is not for what ran beside it.
AGAIN = --last-failed --last-failed-no-failures none

run: $(VENV)/.installed
	$(BIN)/sockd --foreground

test: $(VENV)/.installed $(VENV)/.test
	$(MAKE) -C csrc -j2 -Otarget check-native
	$(BIN)/pytest --share quick $(SIDE_BY_SIDE) $(SUITE) $(PYTEST_ARGS) || $(BIN)/pytest $(AGAIN) $(SUITE) $(PYTEST_ARGS)

REST = --share rest --ignore tests/hostile
test-all: test
	$(MAKE) -C csrc -j2 -Otarget check-portable check-symbols check-layers check-names check-dist coverage
	$(BIN)/pytest $(REST) $(SIDE_BY_SIDE) $(SUITE) $(PYTEST_ARGS) || $(BIN)/pytest $(AGAIN) $(SUITE) $(PYTEST_ARGS)
	$(BIN)/pytest --share rest $(CROWDS) $(PYTEST_ARGS) || $(BIN)/pytest $(AGAIN) $(CROWDS) -n 0 $(PYTEST_ARGS)
	$(BIN)/pytest $(ALONE) $(PYTEST_ARGS) || $(BIN)/pytest $(AGAIN) $(ALONE) $(PYTEST_ARGS)

# The C core under AddressSanitizer and UBSan, driven by the tests of the running daemon; without those that count the blocks
# of Python's allocator, of which PYTHONMALLOC=malloc has none, that measure time, or that read the source.
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1
sanitize: $(VENV)/.test
	rm -rf build/lib* build/temp* build/sanitized
	SOCKD_CFLAGS="$(SANITIZE)" SOCKD_LDFLAGS="$(SANITIZE)" $(PIP) wheel --no-deps -w build/sanitized .
	rm -rf build/lib* build/temp* && $(PYTHON) -m venv --clear $(VENV)-sanitized
	$(VENV)-sanitized/bin/python -m pip --disable-pip-version-check -q install -r $(VENV)/test.txt build/sanitized/*.whl
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PATH="$(CURDIR)/$(VENV)-sanitized/bin:$$PATH" \
	  $(VENV)-sanitized/bin/pytest -q -p no:faulthandler -k "$(UNSANITIZED)" $(SIDE_BY_SIDE) $(SANITIZED_TESTS) $(PYTEST_ARGS)
UNSANITIZED = not keep_nothing and not costs_the_same and not time_for_a_frame and not what_waits_is_not_copied and not has_a_name
SANITIZED_TESTS = tests/buffer tests/net/udp tests/services/handlers/test_exchange.py tests/services/handlers/test_awaited.py tests/services/handlers/test_awaited_misuse.py tests/services/handlers/test_reader_programs.py tests/net/connection/test_table.py tests/system/test_framing.py tests/system/test_handlers.py tests/system/test_socks_door.py tests/services/exec/test_service.py tests/process/test_last_words.py

versions: build/.wheel
	VERSIONS_TESTS="$(VERSIONS_TESTS)" WITHOUT="$(WITHOUT)" packaging/test-wheel

interop: $(VENV)/.installed $(VENV)/.test
	tests/interop/install
	$(MAKE) $(VENV)/.interop || echo "interop: asyncio servers cannot be had: their tests are skipped"
	$(BIN)/pytest tests/interop -rs $(SIDE_BY_SIDE) $(PYTEST_ARGS) || $(BIN)/pytest $(AGAIN) tests/interop $(PYTEST_ARGS)

multiplexers: $(VENV)/.installed $(VENV)/.test
	for name in auto epoll poll select; do \
	  echo "multiplexer $$name"; SOCKD_MULTIPLEXER=$$name $(BIN)/pytest tests/faq tests/hostile $(PYTEST_ARGS) || exit 1; \
	done

soak: $(VENV)/.installed $(VENV)/.test
	SOCKD_SOAK=1 $(BIN)/pytest tests/hostile tests/faq $(SOAKED) --timeout 3600 $(PYTEST_ARGS)
SOAKED = tests/process/test_pidfile.py tests/system/test_relay.py tests/system/test_upgrade.py tests/system/test_workers_upgrade.py tests/interop/test_upgrade.py

RUNS ?= 10000000
fuzz: $(VENV)/.installed
	$(MAKE) -C csrc fuzz fuzz-client fuzz-mux RUNS=$(RUNS)
	$(BIN)/python tests/fuzz/parsers.py --runs $(RUNS)

WITH_PYTHON = -Isockd/buffer -Isockd/net/udp -Isockd/services/handlers -DPy_LIMITED_API=0x030b0000 -isystem $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	ls csrc/*.c csrc/examples/*.c sockd/buffer/*.c sockd/net/connection/*.c sockd/net/udp/*.c sockd/process/*.c sockd/services/handlers/*.c bench/*.c tests/hostile/*.c | \
	  xargs -P 2 -n 8 $(CC) -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror -fsyntax-only -Icsrc $(WITH_PYTHON) -include csrc/sockrelay.h

PREFIX ?= /usr/local
# The system's Python, which services can read and execute, before one in somebody's home directory.
INSTALL_PYTHON = $(if $(filter command line environment,$(origin PYTHON)),$(PYTHON),$(or $(shell /usr/bin/python3 -c 'import sys; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null),$(PYTHON)))
DEPENDENCIES := build/.dependencies-$(subst /,-,$(INSTALL_PYTHON))
build: build/.wheel $(DEPENDENCIES)

install: build
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" PYTHON="$(INSTALL_PYTHON)" PIP="$(BIN)/python -m pip" MAKE="$(MAKE)" packaging/install

docs: $(VENV)/.installed $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site
	@echo "docs: build/site/index.html"

# sockd.buffer without the daemon, from the same tree.
buffer: $(VENV)/bin/python
	packaging/buffer/source build/buffer/source
	$(PIP) wheel --no-deps -w build/buffer build/buffer/source

wheels: $(VENV)/.installed $(VENV)/.wheels
	for kind in reproducible manylinux musllinux aarch64; do \
	  packaging/wheels $$kind sockd && packaging/wheels $$kind sockd-buffer || exit 1; \
	done

packages: wheels
	packaging/packages deb bookworm trixie forky
	packaging/packages install bookworm trixie forky
	packaging/packages rpm
	packaging/packages image

uninstall:
	DESTDIR="$(DESTDIR)" packaging/place --remove "$(PREFIX)/lib/sockd"

# An environment of the wheel and what it needs alone, as it would be installed.
sbom: build/.wheel $(VENV)/.release
	rm -rf build/sbom && $(PYTHON) -m venv --without-pip build/sbom
	$(PIP) --python build/sbom/bin/python install build/wheel/*.whl
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	  -o build/wheel/sockd.cdx.json build/sbom/bin/python
	$(BIN)/python -c 'import json; made = json.load(open("build/wheel/sockd.cdx.json")); \
	  print("SBOM valid:", made["metadata"]["component"]["name"], *sorted(one["name"] for one in made["components"]))'

generated: $(VENV)/.installed
	$(BIN)/python packaging/generate

bench: $(VENV)/.installed $(VENV)/.bench
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/calls.py
	$(BIN)/python bench/tls.py
	$(BIN)/python bench/run.py $(BENCH_ARGS)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or later is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

build/.wheel: $(SOURCES) | $(VENV)/bin/python
	rm -rf build/wheel build/lib* build/temp* build/bdist*
	SOURCE_DATE_EPOCH=$(EPOCH) $(PIP) wheel --no-deps -w build/wheel .
	touch $@

# The wheels that the package needs, for the Python that it is installed for.
$(DEPENDENCIES): pyproject.toml | $(VENV)/bin/python
	rm -rf build/dependencies build/for build/.dependencies-*
	$(INSTALL_PYTHON) -m venv --without-pip build/for
	$(PIP) --python build/for/bin/python wheel -w build/dependencies \
	  $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])')
	touch $@

tools: build/.tools
build/.tools: pyproject.toml | $(VENV)/bin/python
	rm -rf build/tools build/for
	$(INSTALL_PYTHON) -m venv --without-pip build/for
	$(PIP) --python build/for/bin/python download -d build/tools setuptools setuptools-scm pycparser \
	  $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	$(PIP) --python build/for/bin/python download --no-deps --no-binary cffi,msgspec,psutil -d build/tools cffi msgspec psutil
	touch $@

$(VENV)/.installed: build/.wheel
	$(PIP) install build/wheel/*.whl
	$(PIP) install --no-deps --force-reinstall build/wheel/*.whl
	touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.bench $(VENV)/.docs $(VENV)/.release $(VENV)/.wheels $(VENV)/.interop: $(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")' $* > $(VENV)/$*.txt
	$(PIP) install -r $(VENV)/$*.txt
	touch $@

clean:
	rm -rf build dist *.egg-info bench/build csrc/build $(VENV) $(VENV)-sanitized

.PHONY: build buffer docs packages tools wheels run test test-all fuzz sanitize versions interop multiplexers soak lint bench install uninstall sbom generated clean
