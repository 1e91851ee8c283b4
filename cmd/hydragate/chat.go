package main

import "hydragate/cmd/hydragate/demo"

type chatCmd struct{ demo.ChatOptions }
