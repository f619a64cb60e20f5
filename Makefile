# A table of contents: each target is a line that a person could type.
.PHONY: demo build test test-long lint vuln sbom fuzz bench sim install package docs

demo: ## see a whole swarm work on this machine
	@CGO_ENABLED=0 go run ./cmd/shoal demo

build: ## one static binary: bin/shoal
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$$(scripts/version)" -o bin/shoal ./cmd/shoal

install: build ## for all users of this machine
	install -m 0755 bin/shoal /usr/local/bin/shoal

package: ## deb, rpm and archives for all systems, into dist/
	@scripts/package

docs: ## what the program itself says: docs/CLI.md and the recorded session, docs/session.svg
	CGO_ENABLED=0 go run ./cmd/shoal man --markdown >docs/CLI.md
	@scripts/record

test: ## everything that can be checked here; says what it leaves out
	@scripts/test

test-long: ## the campaign of an hour, as root: kills, power, swarms, fuzzing, flipped bits, a soak; bench/LONG.md (LONG='-stage kills -minutes 9')
	CGO_ENABLED=0 go run ./bench/long $(or $(LONG),-fresh)

lint: ## formatting, vet, gosec, staticcheck, tidy modules, other systems
	@scripts/lint

vuln: ## known vulnerabilities that the program reaches, with the toolchain of releases
	@scripts/vuln

sbom: build ## what bin/shoal is made of, as CycloneDX: bin/shoal.cdx.json
	go run ./scripts/sbom bin/shoal "$$(scripts/version)" >bin/shoal.cdx.json

fuzz: ## each fuzz target for a minute (FUZZTIME=5m for longer)
	@scripts/fuzz

sim: ## the exchange in simulated swarms; SIM='--leechers 100 --pieces 512 --neighbours 40' for others
	@CGO_ENABLED=0 go run ./cmd/shoal sim $(SIM)

bench: ## the large measurements; see bench/README.md (and as root, apart: go run ./bench/flash)
	CGO_ENABLED=0 go run ./bench/classic
	CGO_ENABLED=0 go run ./bench/members
	CGO_ENABLED=0 go run ./bench/verified
