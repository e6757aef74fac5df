# The least that works: an API, one GPU that scales to zero, its state on this machine.
#
#   cd terraform/examples/minimal
#   terraform init
#   terraform apply -target=module.promptreel.terraform_data.foundation    # registry, secrets, database
#   terraform output next_steps                                            # keys and images, then
#   terraform apply

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.7, < 9"
    }
  }
}

provider "google" {
  project = var.project_id
  # The budget's API asks whose quota a person's call counts against.
  billing_project       = var.project_id
  user_project_override = true
}

variable "billing_account" {
  description = "gcloud billing accounts list"
  type        = string
}

variable "images" {
  description = "By digest; null only for the first apply."
  type = object({
    api        = string
    gpu_worker = string
  })
  default = null
}

variable "project_id" {
  description = "A project with billing, empty but for this."
  type        = string
}

module "promptreel" {
  source = "../.."

  billing_account     = var.billing_account
  deletion_protection = false
  images              = var.images
  project_id          = var.project_id
}

output "add_secrets" {
  value = module.promptreel.add_secrets
}

output "next_steps" {
  value = module.promptreel.next_steps
}

output "url" {
  value = module.promptreel.url
}
