# For callers who count on it: a domain with HTTP/3 and a rate limit, one API instance always there, three GPUs at
# most, Veo when they fail, seven days of every version of the database, alerts, and the state in a bucket, so that
# Cloud Build can release.
#
#   gcloud storage buckets create gs://PROJECT-terraform --location=europe-west4 \
#     --uniform-bucket-level-access --public-access-prevention
#   gcloud storage buckets update gs://PROJECT-terraform --versioning
#   cd terraform/examples/production
#   terraform init -backend-config=bucket=PROJECT-terraform
#   terraform apply -target=module.promptreel.terraform_data.foundation
#   terraform output next_steps

terraform {
  required_version = ">= 1.9"

  backend "gcs" {
    prefix = "promptreel"
  }

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

variable "alert_emails" {
  description = "Who is written to when an alert fires."
  type        = list(string)
}

variable "billing_account" {
  description = "gcloud billing accounts list"
  type        = string
}

variable "domain" {
  description = "Where callers will find the API, like video.example.com."
  type        = string
}

variable "images" {
  description = "By digest; null only for the first apply. A release sets it."
  type = object({
    api           = string
    gpu_worker    = string
    remote_worker = string
  })
  default = null
}

variable "project_id" {
  description = "A project with billing, empty but for this."
  type        = string
}

variable "state_bucket" {
  description = "The bucket named at terraform init."
  type        = string
}

module "promptreel" {
  source = "../.."

  alert_emails    = var.alert_emails
  billing_account = var.billing_account
  images          = var.images
  monthly_budget  = 2000
  project_id      = var.project_id
  region          = "europe-west4"
  state_bucket    = var.state_bucket

  api = {
    cpu           = "2"
    memory        = "2Gi"
    min_instances = 1
    max_instances = 10
  }

  configuration = {
    limits = {
      in_flight_per_owner              = 50
      submissions_per_minute_per_owner = 60
    }
  }

  firestore = {
    location               = "eur3"
    point_in_time_recovery = true
  }

  gpu_worker = {
    max_instances = 3
  }

  load_balancer = {
    domain = var.domain
  }

  remote_worker = {}
}

output "add_secrets" {
  value = module.promptreel.add_secrets
}

output "load_balancer_address" {
  value = module.promptreel.load_balancer_address
}

output "next_steps" {
  value = module.promptreel.next_steps
}

output "url" {
  value = module.promptreel.url
}
