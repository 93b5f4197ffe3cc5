// Package manifests checks config/kubernetes and config/docker/compose.yaml: that they decode into the
// types of those who read them, and that the program knows what they tell it. It is a module of its
// own for the sake of these types.
package manifests
