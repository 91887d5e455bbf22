// Command tcpcopy replays live TCP traffic against a test server; see tcpcopy --help.
package main

import (
	"os"

	"tcpcopy/internal/app"
)

func main() { os.Exit(app.Main(os.Args)) }
