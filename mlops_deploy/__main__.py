"""`python -m mlops_deploy` is `mlops-deploy`."""

from mlops_deploy.cli.main import main

if __name__ == "__main__":
    main()
