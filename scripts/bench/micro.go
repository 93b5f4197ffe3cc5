package main

import (
	"context"
	"fmt"
	"time"

	"aggregator/scripts/bench/micro"
	"aggregator/scripts/bench/report"
)

// partMicro runs the Go benchmarks. They need no servers of ours, and start their own.
func (b *bench) partMicro(ctx context.Context) (err error) {
	if b.micro == 0 {
		b.log("  left out")
		return nil
	}
	if b.results.Micro, err = micro.Run(ctx, b.micro); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nmicro, %s\n", now().Format(time.DateTime))
	report.Micro(b.results.Micro).WriteText(b.out)
	return nil
}
