// Package crash has the points at which the fault suite kills or pauses the process. Only a build with the tag faults
// has them; in any other At does nothing.
package crash
