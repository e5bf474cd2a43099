# Berth. `make help` lists the targets.
SHELL := /bin/bash
BIN := $(CURDIR)/bin
TAG ?= dev
IMAGE := berth.dev/berth:$(TAG)
CLUSTER := $(BIN)/cluster
export CGO_ENABLED ?= 0

MODULES := . tools test/builders test/client/tools test/cluster test/conformance/suite test/crio
UNIT = $$(go list ./... | grep -v /test/)
# The race detector needs a C compiler.
RACE := $(if $(shell command -v gcc),-race)
# RESULTS, where it is set, is a folder that gets a file of outcomes from each tier.
gotestsum = $(BIN)/gotestsum --format pkgname-and-test-fails --no-color $(if $(RESULTS),--jsonfile-timing-events $(RESULTS)/$(1).json)

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/berth
	@echo "Building berth"
	@go build -trimpath -ldflags "-s -w -X main.version=$(TAG)" -o $(BIN)/berth ./cmd/berth

.PHONY: tools
tools: ## build the tools of development into bin/
	GOBIN=$(BIN) go -C tools install -trimpath tool

.PHONY: generate
generate: tools ## write the CRDs and the deep copies anew
	$(BIN)/controller-gen object paths=./api/... crd paths=./api/... output:crd:artifacts:config=manifests/crds

.PHONY: verify
verify: generate ## fail where generated files or modules are not as committed
	@for m in $(MODULES); do go -C $$m mod tidy -diff || exit 1; done
	git diff --exit-code -- api manifests

.PHONY: lint
lint: tools ## run every linter, the rules of imports among them
	$(BIN)/golangci-lint run ./...

.PHONY: test
test: test-unit test-api conformance test-clients test-cluster ## run all tests; as root also those on a real cluster

.PHONY: test-unit
test-unit: $(BIN)/gotestsum ## run the tests that any user can, under the race detector
	@[ "$(RACE)" ] || echo "WITHOUT the race detector: it needs gcc" >&2
	CGO_ENABLED=$(if $(RACE),1,0) $(call gotestsum,unit) -- $(RACE) -shuffle=on $(UNIT)
	@echo "Running each benchmark once"
	@CGO_ENABLED=$(if $(RACE),1,0) go test $(RACE) -short -run '^$$' -bench . -benchtime 1x $(UNIT) >$(BIN)/benchmarks.txt 2>&1 || { cat $(BIN)/benchmarks.txt; exit 1; }
	cd test/cluster && $(call gotestsum,cluster-unit) -- ./...
	cd test/crio && $(call gotestsum,crio) -- -count=1 -tags containers_image_openpgp ./...

.PHONY: test-api
test-api: build $(CLUSTER) $(BIN)/gotestsum ## run the tests against a real API server and etcd, as any user
	kubernetes=$$($(CLUSTER) path kubernetes) && BERTH_KUBERNETES=$$kubernetes BERTH_PROGRAM=$(BIN)/berth \
	  CGO_ENABLED=$(if $(RACE),1,0) $(call gotestsum,api) -- $(RACE) -count=1 ./test/api

# What runs registries, and Berth before them, on loopback addresses.
REGISTRIES = BERTH_REGISTRY=$$($(CLUSTER) path registry) BERTH_PROGRAM=$(BIN)/berth

.PHONY: conformance
conformance: build $(CLUSTER) $(BIN)/gotestsum debian ## send the same requests to registries and through Berth, as any user, and compare
	@go -C test/conformance/suite test -c -o $(BIN)/oci-suite.test github.com/opencontainers/distribution-spec/conformance
	$(REGISTRIES) BERTH_OCI_SUITE=$(BIN)/oci-suite.test $(call gotestsum,conformance) -- -count=1 ./test/conformance ./test/loopback/... ./test/leak

.PHONY: test-clients
test-clients: build $(CLUSTER) $(BIN)/gotestsum debian ## run the clients that people use through Berth; as root containerd and buildah too
	@echo "Building crane, helm, notation, oras and regctl"
	@GOBIN=$(BIN)/clients go -C test/client/tools install -trimpath tool
	$(REGISTRIES) BERTH_CLIENTS=$(BIN)/clients $(if $(filter 0,$(shell id -u)),BERTH_CONTAINERD=$$($(CLUSTER) path containerd) BERTH_CTR=$$($(CLUSTER) path ctr)) \
	  $(call gotestsum,clients) -- -count=1 ./test/client

# The programs that are Debian's, each with its package; tests that need one that is missing are skipped.
DEBIAN = nginx:nginx-light skopeo:skopeo buildah:buildah mmdebstrap:mmdebstrap curl:curl wget:wget git:git pip3:python3-pip /usr/lib/python3/dist-packages/requests:python3-requests
.PHONY: debian
debian:
	@for p in $(DEBIAN); do command -v $${p%:*} >/dev/null || [ -d $${p%:*} ] || missing="$$missing $${p#*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing"; apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	elif [ -n "$$missing" ]; then echo "MISSING, so that tests are skipped:$$missing" >&2; fi

.PHONY: test-cluster
test-cluster: $(BIN)/gotestsum ## run the tests on a real cluster on this machine; skipped, loudly, without root
ifeq ($(shell id -u),0)
	$(MAKE) $(CLUSTER) image builders
	go test -c -o $(BIN)/e2e.test ./test/e2e
	go build -o $(BIN)/test2json cmd/test2json
	BERTH_BUILDERS=$(BUILDERS) $(call gotestsum,e2e) --ignore-non-json-output-lines --raw-command -- \
	  test/lab/with-cluster.sh $(BIN)/test2json -t -p e2e $(BIN)/e2e.test -test.v=test2json
else
	@echo "SKIPPED: the tests on a real cluster need root; run 'sudo make test-cluster'" >&2
	$(call gotestsum,e2e) -- ./test/e2e
endif

# The image with which tests build images in Pods. It is made once.
BUILDERS := $(BIN)/builders.tar

.PHONY: builders
builders: debian
	@$(MAKE) --no-print-directory $(BUILDERS) || echo "SKIPPED: the tests that build images in Pods; there is no image to build with" >&2

$(BUILDERS): test/builders/go.mod test/builders/image.sh
	@test/builders/image.sh $@

.PHONY: fuzz
fuzz: ## fuzz every parser, FUZZTIME (30s) each
	@for p in $(UNIT); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	  go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$p || exit 1; done; done

.PHONY: mutation
mutation: ## break the rules of the core one by one, and see that a test fails for each
	go run ./test/mutation

.PHONY: bench
bench: ## run the benchmarks, and fail where a bar is missed
	go test -run '^$$' -bench . -benchmem $(UNIT)
	go run ./test/bench
	$(MAKE) bench-proxy
	$(MAKE) bench-forward

.PHONY: bench-proxy
bench-proxy: build peers ## measure the registry proxy beside a bare one, nginx and haproxy, and fail where a bar is missed
	go build -o $(BIN)/bench-proxy ./test/bench/proxy
	$(BIN)/bench-proxy -berth $(BIN)/berth

.PHONY: bench-forward
bench-forward: build $(CLUSTER) ## measure the forward proxy beside goproxy's own interception, squid, mitmproxy and a bare relay, and fail where a bar is missed
	@$(MAKE) peers PEERS="squid:squid-openssl mitmdump:mitmproxy"
	go build -o $(BIN)/bench-proxy ./test/bench/proxy
	$(BIN)/bench-proxy -berth $(BIN)/berth -suite forward -distribution $$($(CLUSTER) path registry)/registry

# What is measured beside, as program:package of Debian.
PEERS ?= nginx:nginx-light haproxy:haproxy
.PHONY: peers
peers:
	@PATH=$$PATH:/usr/sbin; for p in $(PEERS); do command -v $${p%:*} >/dev/null || missing="$$missing $${p#*:}"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ]; then apt-get install -y --no-install-recommends $$missing; \
	else echo "SKIPPED:$$missing are not installed, and that needs root" >&2; fi

.PHONY: image
image: build ## make the image of Berth, without Docker: the OCI layout dist/berth, and dist/berth.tar of it
	@echo "Making the image $(IMAGE)"
	@rm -rf dist/berth
	@go -C tools run ./image -bin $(BIN)/berth -ref $(IMAGE) -user 65532:65532 -layout $(CURDIR)/dist/berth -tar $(CURDIR)/dist/berth.tar

.PHONY: demo
demo: $(CLUSTER) image ## show Berth's main job on a real cluster on this machine
	@go build -o $(BIN)/demo ./test/demo
	@test/lab/with-cluster.sh $(BIN)/demo

.PHONY: cluster-up
cluster-up: $(CLUSTER) image ## start a real one-node Kubernetes, with Berth installed, and leave it running
	$(CLUSTER) up
	test/lab/install.sh
	@echo "Use it by: make cluster-exec CMD='kubectl get pods -A'; end it by: make cluster-down"

.PHONY: cluster-exec
cluster-exec: $(CLUSTER) ## run CMD in the cluster: make cluster-exec CMD='kubectl get pods -A'
	@$(CLUSTER) exec -- bash -c "$(CMD)"

.PHONY: cluster-down
cluster-down: $(CLUSTER) ## end the cluster, and show that nothing is left of it
	$(CLUSTER) down

.PHONY: $(CLUSTER)
$(CLUSTER):
	@go -C test/cluster build -trimpath -o $@ ./cmd/cluster

$(BIN)/gotestsum: tools/go.mod
	GOBIN=$(BIN) go -C tools install -trimpath gotest.tools/gotestsum

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) dist
