# The front door. Anything longer than a line is a script under deploy/.
.DEFAULT_GOAL := help
.PHONY: help up down demo test chaos queries check bench bench-parity bench-large load batch soak clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

up: ## Start the local stack: PostgreSQL, RabbitMQ, S3, coordinator, one worker
	@deploy/local/up.sh

down: ## Stop the local stack; its data stays
	@deploy/local/down.sh

demo: ## Start the stack and upscale the sample photos into demo-output/
	@deploy/local/demo.sh

test: ## Run every test beside throw-away services
	@deploy/local/test.sh

chaos: ## Break everything at once and check that no job is lost (SEED=n replays)
	@deploy/chaos/run.sh

queries: ## Check every query against the migrations and write .sqlx/ anew
	@deploy/local/queries.sh

check: ## Format, lints, docs, licences, unused dependencies
	@deploy/local/check.sh

bench: ## Run the benchmarks; the numbers land in target/bench/
	@deploy/bench/run.sh

bench-parity: ## Compare every stage of the full-size networks with PyTorch's (9 GB, minutes)
	@deploy/bench/run.sh parity

bench-large: ## A TIFF of 30,000 x 20,000 px from file to file in less than 1 GiB (minutes)
	@deploy/bench/run.sh large

load: ## A hundred thousand jobs through the queue, claims beside millions of ended ones (minutes)
	@deploy/bench/run.sh load

batch: ## Half a million items of a manifest, deaths meanwhile, and another tenant beside them (minutes)
	@deploy/bench/run.sh batch

soak: ## A mixed load for MINUTES=30: does memory, or a table, grow?
	@deploy/bench/run.sh soak

clean: ## Stop the stack; remove its data, the demo's pictures and the build
	@deploy/local/clean.sh
