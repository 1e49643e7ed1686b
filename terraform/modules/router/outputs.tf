output "functions" {
  description = "Every function by its short name: name, alias, ARNs, role and log group, see the module function."
  value       = module.function
}
