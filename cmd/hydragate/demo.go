package main

import "hydragate/cmd/hydragate/demo"

type demoCmd struct{ demo.Options }
