module berth.dev/berth/test/cluster

go 1.26.0
